// Winograd convolution with kernels of 3 x 3 and 5 x 5: for 4 x 4 outputs 36 multiplications instead of 144, or 64 instead of
// 400 (Winograd 1980; Lavin & Gray 2015, arXiv:1509.09308). The six points 0, 1, -1, 2, -1/2 and infinity are those of
// Barabasz et al. 2018 (arXiv:1803.10986): the error in float32 is two to three times that of the plain sum, not ten times.
// With eight points (-2 and 1/2 besides) it is six times that of the plain sum.
//
// Tiles are counted from the image's corner, so that the bits do not depend on the number of threads. A number that is not
// finite spreads over its tile.
#pragma once
#include "padded_image.h"
#include "weight_cache.h"

namespace {

constexpr int MAX_POINTS = 8, SIDE = WINOGRAD_TILE;
constexpr double SIX[] = {0, 1, -1, 2, -0.5}, EIGHT[] = {0, 1, -1, 2, -2, 0.5, -0.5};  // and infinity
#if CANTON_WIDTH == 16
constexpr int TILES = KERNEL_ROWS;
#else
constexpr int TILES = 2 * KERNEL_ROWS;
#endif

// The input transform of P numbers.
template <int P>
INLINE void input_transform(const V* d, V* out) {
    if constexpr (P == 6) {
        const V t = d[4] - d[2], s = d[3] - d[1], p = t - 1.5f * d[3], run = s - 1.5f * d[2];
        out[0] = (d[0] - d[2]) + t - 1.5f * s;
        out[1] = p + run;
        out[2] = p - run;
        out[3] = t + 0.5f * s;
        out[4] = t - 2.0f * s;
        out[5] = (d[5] - d[3]) - s - 1.5f * t;
        return;
    }
    const V even1 = (d[2] + d[6]) - 4.25f * d[4], odd1 = (d[1] + d[5]) - 4.25f * d[3];
    const V even2 = (d[6] + 0.25f * d[2]) - 1.25f * d[4], odd2 = (0.5f * d[1] + 2.0f * d[5]) - 2.5f * d[3];
    const V even3 = (d[6] + 4.0f * d[2]) - 5.0f * d[4], odd3 = (2.0f * d[1] + 0.5f * d[5]) - 2.5f * d[3];
    out[0] = (d[6] - d[0]) + 5.25f * (d[2] - d[4]);
    out[1] = even1 + odd1, out[2] = even1 - odd1;
    out[3] = even2 + odd2, out[4] = even2 - odd2;
    out[5] = even3 + odd3, out[6] = even3 - odd3;
    out[7] = (d[7] - d[1]) + 5.25f * (d[3] - d[5]);
}

// The output transform: from the products at the P points to `SIDE` neighbouring outputs.
template <int P>
INLINE void output_transform(const V* d, V* out) {
    const V sum = d[1] + d[2], difference = d[1] - d[2];
    if constexpr (P == 8) {
        const V sum2 = d[3] + d[4], difference2 = d[3] - d[4], sum3 = d[5] + d[6], difference3 = d[5] - d[6];
        out[0] = (d[0] + sum) + (sum2 + sum3);
        out[1] = difference + 2.0f * difference2 + 0.5f * difference3;
        out[2] = sum + 4.0f * sum2 + 0.25f * sum3;
        out[3] = difference + 8.0f * difference2 + 0.125f * difference3 + d[7];
        return;
    }
    out[0] = (d[0] + sum) + (d[3] + d[4]);
    out[1] = difference + 2.0f * d[3] - 0.5f * d[4];
    out[2] = sum + 4.0f * d[3] + 0.25f * d[4];
    out[3] = difference + 8.0f * d[3] - 0.125f * d[4] + d[5];
}

struct Winograd {
    PackedMatrix packed;  // of one position; the others follow
    int64_t zero = 0, position, channels, lanes;
    int points = 0, positions = 0;  // of a side, and of a tile; 0 where Winograd is not used
    float* scratch;
    int64_t per_thread, columns_at, products_at, lines_at;
    PackedWeight* packed_weight = nullptr;

    Winograd() = default;
    Winograd(const Winograd&) = delete;
    ~Winograd() { release(packed_weight); }

    // `gates` groups of `each` columns out of `channels`, as DirectProduct::fill has them.
    void fill(const RecurrentRun& run, const float* weight, int64_t gates, int64_t each, int64_t channels_, bool transposed,
              Workspace& workspace) {
        measure(run, channels_);
        if (!points) return;
        const int64_t k = run.kernel[1], taps = k * k, per_gate = (each + W - 1) / W;
        packed.offset = &zero, packed.segments = 1, packed.length = channels, packed.vectors = gates * per_gate;
        position = packed.vectors * channels * W;
        const int64_t shape[6] = {gates, each, channels, taps, transposed, positions * position};
        bool made;
        packed_weight = find_packed(weight, shape, made);
        packed.data = packed_weight->data;
        if (made) {
            pack(weight, gates, each, k, transposed, packed_weight->data);
            cache(packed_weight);
        }
        columns_at = positions * TILES * lanes;
        products_at = columns_at + (TILES * SIDE + points) * points * lanes;
        lines_at = products_at + positions * TILES * 2 * W;
        per_thread = lines_at + SIDE * SIDE * TILES * 2 * W;
        scratch = workspace.floats(per_thread * run.threads);
    }

    // Set the sizes of the tiles, or points = 0 where Winograd is not used.
    void measure(const RecurrentRun& run, int64_t channels_) {
        points = run.winograd() ? SIDE + int(run.kernel[1]) - 1 : 0, positions = points * points;
        channels = channels_, lanes = (channels + W - 1) / W * W;
    }

    // The filter transform: row i, column j is the factor of the kernel's pixel j at point i of `count`.
    static void filter_transform(int64_t k, int count, double (&at)[MAX_POINTS][5]) {
        const double* point = count == 6 ? SIX : EIGHT;
        for (int i = 0; i < count - 1; ++i) {
            double divisor = 1, power = 1;
            for (int other = 0; other < count - 1; ++other)
                if (other != i) divisor *= point[i] - point[other];
            for (int64_t j = 0; j < k; ++j, power *= point[i]) at[i][j] = power / divisor;
        }
        for (int64_t j = 0; j < k; ++j) at[count - 1][j] = j == k - 1;
    }

    // The weight's values at all positions, each packed for the micro-kernel; `data` holds zeros.
    void pack(const float* weight, int64_t gates, int64_t each, int64_t k, bool transposed, float* data) const {
        const int64_t taps = k * k, per_gate = (each + W - 1) / W;
        double at[MAX_POINTS][5];
        filter_transform(k, points, at);
        const int64_t by_column = transposed ? taps : channels * taps;
        const int64_t by_channel = transposed ? each * gates * taps : taps;
        for (int64_t v = 0; v < packed.vectors; ++v) {
            const bool alone = v + 1 == packed.vectors && v % 2 == 0;
            const int64_t step = alone ? W : 2 * W, first = v % per_gate * W;
            const int64_t n = each - first < W ? each - first : W;
            for (int64_t c = 0; c < channels; ++c) {
                double g[25][W] = {}, half[5][W];  // W columns at once
                for (int64_t i = 0; i < n; ++i) {
                    const float* from = weight + (v / per_gate * each + first + i) * by_column + c * by_channel;
                    for (int64_t tap = 0; tap < taps; ++tap) g[tap][i] = from[transposed ? taps - 1 - tap : tap];
                }
                float* to = data + v / 2 * channels * 2 * W + v % 2 * W + c * step;
                for (int a = 0; a < points; ++a) {
                    for (int64_t x = 0; x < k; ++x) combine(at[a], &g[x], k, k, half[x]);
                    for (int b = 0; b < points; ++b, to += position) {
                        double sum[W];
                        combine(at[b], half, 1, k, sum);
                        for (int i = 0; i < W; ++i) to[i] = float(sum[i]);
                    }
                }
            }
        }
    }

    // sum[i] = the sum over j of factor[j] rows[j * stride][i].
    static INLINE void combine(const double* factor, const double (*rows)[W], int64_t stride, int64_t k, double* sum) {
        for (int i = 0; i < W; ++i) sum[i] = 0;
        for (int64_t j = 0; j < k; ++j)
            for (int i = 0; i < W; ++i) sum[i] += factor[j] * rows[j * stride][i];
    }

    // As `product`: calls tail(vector, line, x, rows, sums, stride) for all pixels of the range.
    template <class Tail>
    void apply(const PaddedImage& padded, const Range& range, int64_t thread, Tail tail) const {
        float* space = scratch + thread * per_thread;
        if (points == 8) return tiles<8>(padded, range, space, tail);
        tiles<6>(padded, range, space, tail);
    }

    template <int P, class Tail>
    void tiles(const PaddedImage& padded, const Range& range, float* space, Tail tail) const {
        const int64_t across = (padded.width + SIDE - 1) / SIDE, blocks = (across + TILES - 1) / TILES;
        for (int64_t line = range.line0; line < range.line1;) {
            const int64_t end = line - line % padded.height + padded.height, left = (end < range.line1 ? end : range.line1) - line;
            const int64_t high = left < SIDE ? left : SIDE;
            for (int64_t i = 0; i < blocks; ++i) {
                const int64_t x = across * i / blocks * SIDE;
                const int count = int(across * (i + 1) / blocks - x / SIDE);
                block<P>(padded, padded.window(line) + x * padded.stride, line, int(high), x, count, space, tail);
            }
            line += high;
        }
    }

    // `count` tiles side by side.
    template <int P, class Tail>
    __attribute__((noinline)) void block(const PaddedImage& padded, const float* corner, int64_t line, int high, int64_t x0,
                                         int count, float* space, Tail tail) const {
        transform_inputs<P>(padded, corner, count, TILES, space, space + columns_at);
        const int64_t wide = padded.width - x0 < count * SIDE ? padded.width - x0 : count * SIDE;
        float *products = space + products_at, *lines = space + lines_at;
        for (int64_t v = 0; v < packed.vectors; v += 2) {
            const int n = packed.vectors - v < 2 ? 1 : 2;
            for (int p = 0; p < P * P; ++p) {
                const float* b = packed.data + p * position + v / 2 * channels * 2 * W;
                for (int row = 0; row < count; row += KERNEL_ROWS) {
                    const int rows = count - row < KERNEL_ROWS ? count - row : KERNEL_ROWS;
                    micro_kernel_for(rows, n)(space + (p * TILES + row) * lanes, lanes, packed, b,
                                      products + (p * TILES + row) * n * W);
                }
            }
            for (int tile = 0; tile < count; ++tile)
                for (int j = 0; j < n; ++j) {
                    const float* from = products + (tile * n + j) * W;
                    V half[SIDE][P];
                    for (int b = 0; b < P; ++b) {
                        V d[P], out[SIDE];
                        for (int a = 0; a < P; ++a) d[a] = load(from + (a * P + b) * TILES * n * W);
                        output_transform<P>(d, out);
                        for (int y = 0; y < SIDE; ++y) half[y][b] = out[y];
                    }
                    for (int y = 0; y < SIDE; ++y) {
                        V out[SIDE];
                        output_transform<P>(half[y], out);
                        for (int x = 0; x < SIDE; ++x)
                            store(lines + ((y * TILES * SIDE + tile * SIDE + x) * n + j) * W, out[x]);
                    }
                }
            for (int y = 0; y < high; ++y)
                for (int j = 0; j < n; ++j)
                    tail(v + j, line + y, x0, int(wide), lines + (y * TILES * SIDE * n + j) * W, n * W);
        }
    }

    // Transform the input of `count` tiles side by side, `apart` tiles a position: first down the columns, which neighbours
    // share, then along the rows.
    template <int P>
    void transform_inputs(const PaddedImage& padded, const float* corner, int count, int apart, float* space, float* columns) const {
        for (int64_t c = 0; c < channels; c += W) {
            const int n = int(channels - c < W ? channels - c : W);
            for (int x = 0; x < count * SIDE + P - SIDE; ++x) {
                V d[P], out[P];
                for (int y = 0; y < P; ++y) d[y] = load(corner + y * padded.pitch + x * padded.stride + c, n);
                input_transform<P>(d, out);
                for (int y = 0; y < P; ++y) store(columns + (x * P + y) * W, out[y]);
            }
            for (int tile = 0; tile < count; ++tile)
                for (int y = 0; y < P; ++y) {
                    V d[P], out[P];
                    for (int x = 0; x < P; ++x) d[x] = load(columns + ((tile * SIDE + x) * P + y) * W);
                    input_transform<P>(d, out);
                    for (int x = 0; x < P; ++x)
                        store(space + ((y * P + x) * apart + tile) * lanes + c, out[x]);
                }
        }
    }
};

// The product of a step's map, by Winograd or directly, whichever is quicker.
struct MapProduct {
    DirectProduct plain;
    Winograd tiled;

    void fill(const RecurrentRun& run, const float* weight, int64_t gates, int64_t each, int64_t channels, bool transposed,
              const PaddedImage& padded, Workspace& workspace) {
        tiled.fill(run, weight, gates, each, channels, transposed, workspace);
        if (!tiled.points) plain.fill(run, weight, gates, each, channels, transposed, padded, workspace);
    }
    template <class Tail>
    void apply(const PaddedImage& padded, const Range& own, int64_t thread, Tail tail) const {
        if (tiled.points) return tiled.apply(padded, own, thread, tail);
        const auto start = [&](int64_t line) { return padded.window(line); };
        const PackedMatrix& w = plain.packed;
        if (w.vectors * w.depth() * W < (1 << 18) || own.line1 - own.line0 != 1)  // a core's second cache holds it
            return product(w, own, padded.stride, start, tail, [](int64_t, int64_t, int64_t, int) {});
        PrefetchQueue prefetch;
        PackedMatrix far = w;
        far.prefetch = &prefetch;
        product(far, own, padded.stride, start, tail, [&](int64_t v, int64_t, int64_t x, int rows) {
            if (v % 2 == 0 && v + 1 < w.vectors) return;
            const int64_t after = v / 2 * 2 + 2, count = own.x1 - own.x0;  // the next panel, a part with every block
            const int64_t size = after < w.vectors ? w.depth() * (after + 1 < w.vectors ? 2 * W : W) / 16 : 0;
            const int64_t from = size * (x - own.x0) / count, end = size * (x - own.x0 + rows) / count;
            prefetch.add(w.data + after * w.depth() * W + from * 16, 16, end - from);
            prefetch.close(w.data);
        });
    }
};

}  // namespace
