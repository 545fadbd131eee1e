// The gradient of a convolution's weight over many images, by Winograd tiles. Input and output gradients are transformed, one
// product over all tiles gives the transformed gradient, and it is transformed back once at the end.
#pragma once
#include "conv2d.h"

namespace {

// From `SIDE` neighbouring gradients to the P points: the transpose of output_transform.
template <int P>
INLINE void gradient_transform(const V* d, V* out) {
    const V even = d[0] + d[2], odd = d[1] + d[3];
    if constexpr (P == 8) {
        const V even2 = d[0] + 4.0f * d[2], odd2 = 2.0f * d[1] + 8.0f * d[3];
        const V even3 = d[0] + 0.25f * d[2], odd3 = 0.5f * d[1] + 0.125f * d[3];
        out[0] = d[0], out[1] = even + odd, out[2] = even - odd;
        out[3] = even2 + odd2, out[4] = even2 - odd2;
        out[5] = even3 + odd3, out[6] = even3 - odd3;
        out[7] = d[3];
        return;
    }
    out[0] = d[0], out[1] = even + odd, out[2] = even - odd;
    out[3] = d[0] + 2.0f * d[1] + 4.0f * d[2] + 8.0f * d[3];
    out[4] = d[0] - 0.5f * d[1] + 0.25f * d[2] - 0.125f * d[3];
    out[5] = d[3];
}

constexpr int GROUP = 16;              // tiles at a time
constexpr int DEEP = W == 16 ? 8 : 4;  // channels at a time: 24 sums, 3 columns and 1 number of 32 registers, or 12 of 16

// sums[DEEP][N vectors] += over `count` tiles: the tile's numbers x, one by one, times its vectors y.
template <int N>
__attribute__((noinline)) void outer(const float* x, int64_t x_step, const float* y, int64_t y_step, int count,
                                     float* sums, int64_t sums_step) {
    V sum[DEEP][N];
#pragma GCC unroll 8
    for (int i = 0; i < DEEP; ++i)
#pragma GCC unroll 3
        for (int n = 0; n < N; ++n) sum[i][n] = load(sums + i * sums_step + n * W);
    for (int t = 0; t < count; ++t, x += x_step, y += y_step) {
        V column[N];
#pragma GCC unroll 3
        for (int n = 0; n < N; ++n) column[n] = load(y + n * W);
#pragma GCC unroll 8
        for (int i = 0; i < DEEP; ++i) {
            const V number = all(x[i]);
#pragma GCC unroll 3
            for (int n = 0; n < N; ++n) sum[i][n] += number * column[n];
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < DEEP; ++i)
#pragma GCC unroll 3
        for (int n = 0; n < N; ++n) store(sums + i * sums_step + n * W, sum[i][n]);
}

struct ConvolutionWeights {
    const ConvolutionRun& run;
    Workspace workspace;
    RecurrentRun band{};
    int64_t bands, wide, size;  // floats per row of out channels; floats of the gradient at all positions
    Winograd tiles;
    double* total;  // one for each thread

    explicit ConvolutionWeights(const ConvolutionRun& run_) : run(run_) {
        band.images = band.depth = 1, band.height = BAND, band.width = run.out_width, band.hidden = run.in_channels;
        for (int i = 0; i < 3; ++i) band.kernel[i] = i ? run.kernel[i - 1] : 1, band.dilation[i] = 1;
        bands = (run.out_height + BAND - 1) / BAND;
        tiles.measure(band, run.in_channels);
        tiles.lanes = (run.in_channels + 15) / 16 * 16;  // whole multiples of DEEP
        wide = (run.out_channels + W - 1) / W * W, size = tiles.positions * tiles.lanes * wide;
        total = reinterpret_cast<double*>(workspace.floats(2 * size * run.threads));
        memset(total, 0, size_t(size * run.threads) * 8);
    }

    void work(const RecurrentRun& units, const ThreadTeam& team) {
        if (tiles.points == 8) return sum<8>(units, team);
        sum<6>(units, team);
    }

    template <int P>
    void sum(const RecurrentRun& units, const ThreadTeam& team) {
        Workspace mine;
        const PaddedImage padded(band, run.in_channels, false, mine);
        const int64_t across = (run.out_width + SIDE - 1) / SIDE;
        float* sums = mine.floats(size);
        const int64_t columns_at = P * P * GROUP * tiles.lanes;
        float* space = mine.floats(columns_at + (GROUP * SIDE + P) * P * W);
        float* given = mine.floats(P * P * GROUP * wide);
        memset(sums, 0, size_t(size) * 4), memset(space, 0, size_t(columns_at) * 4);
        const int64_t end = units.images * (team.index + 1) / team.count;
        for (int64_t unit = units.images * team.index / team.count; unit < end; ++unit) {
            const int64_t image = unit / bands, top = unit % bands * BAND;
            const int64_t high = run.out_height - top < BAND ? run.out_height - top : BAND;
            Convolution::fetch(run, padded, image, top);
            int filled = 0;
            const auto multiply = [&] {
                for (int p = 0; p < P * P && filled; ++p) accumulate(p, filled, space, given, sums);
                filled = 0;
            };
            for (int64_t line = 0; line < high; line += SIDE)
                for (int64_t tile = 0; tile < across;) {
                    const int count = int(across - tile < GROUP - filled ? across - tile : GROUP - filled);
                    tiles.transform_inputs<P>(padded, padded.window(line) + tile * SIDE * padded.stride, count, GROUP,
                                           space + filled * tiles.lanes, space + columns_at);
                    transform_gradients<P>(image, top + line, tile * SIDE, count, given + filled * wide);
                    tile += count, filled += count;
                    if (filled == GROUP) multiply();
                }
            multiply();
            if (unit % 2 == 1 || unit + 1 == end) flush(sums, total + team.index * size);  // long float32 sums lose precision
        }
    }

    // The outputs' gradients of `count` tiles at their positions; zeros beyond the image.
    template <int P>
    void transform_gradients(int64_t image, int64_t top, int64_t x0, int count, float* given) const {
        for (int64_t c = 0; c < run.out_channels; c += W) {
            const int n = int(run.out_channels - c < W ? run.out_channels - c : W);
            for (int tile = 0; tile < count; ++tile) {
                V half[P][SIDE];
                for (int x = 0; x < SIDE; ++x) {
                    V d[SIDE], out[P];
                    for (int y = 0; y < SIDE; ++y) {
                        const int64_t line = top + y, pixel = x0 + tile * SIDE + x;
                        const bool inside = line < run.out_height && pixel < run.out_width;
                        const int64_t at = (image * run.out_height + line) * run.out_width + pixel;
                        d[y] = inside ? load(run.dy + at * run.dy_pixel + c, n) : V{};
                    }
                    gradient_transform<P>(d, out);
                    for (int a = 0; a < P; ++a) half[a][x] = out[a];
                }
                for (int a = 0; a < P; ++a) {
                    V out[P];
                    gradient_transform<P>(half[a], out);
                    for (int b = 0; b < P; ++b) store(given + ((a * P + b) * GROUP + tile) * wide + c, out[b]);
                }
            }
        }
    }

    void accumulate(int p, int count, const float* space, const float* given, float* sums) const {
        const float *x = space + p * GROUP * tiles.lanes, *y = given + p * GROUP * wide;
        for (int64_t c = 0; c < run.in_channels; c += DEEP)
            for (int64_t n = 0; n < wide;) {
                float* to = sums + (p * tiles.lanes + c) * wide + n;
                const int64_t left = (wide - n) / W;
                if (left == 1) outer<1>(x + c, tiles.lanes, y + n, wide, count, to, wide), n += W;
                else if (left == 2 || left == 4) outer<2>(x + c, tiles.lanes, y + n, wide, count, to, wide), n += 2 * W;
                else outer<3>(x + c, tiles.lanes, y + n, wide, count, to, wide), n += 3 * W;
            }
    }

    void flush(float* sums, double* to) const {
        for (int64_t i = 0; i < size; ++i) to[i] += sums[i];
        memset(sums, 0, size_t(size) * 4);
    }

    // Transform the gradient back to the kernel's pixels.
    void finish() const {
        const int64_t k = run.kernel[0];
        const int points = tiles.points;
        double at[MAX_POINTS][5];
        Winograd::filter_transform(k, points, at);
        for (int64_t part = 1; part < run.threads; ++part)
            for (int64_t i = 0; i < size; ++i) total[i] += total[part * size + i];
        for (int64_t o = 0; o < run.out_channels; ++o)
            for (int64_t c = 0; c < run.in_channels; ++c) {
                double half[5][MAX_POINTS] = {};
                for (int a = 0; a < points; ++a)
                    for (int b = 0; b < points; ++b) {
                        const double value = total[((a * points + b) * tiles.lanes + c) * wide + o];
                        for (int64_t y = 0; y < k; ++y) half[y][b] += at[a][y] * value;
                    }
                for (int64_t y = 0; y < k; ++y)
                    for (int64_t x = 0; x < k; ++x) {
                        double sum = 0;
                        for (int b = 0; b < points; ++b) sum += half[y][b] * at[b][x];
                        run.dweight[((o * run.in_channels + c) * k + y) * k + x] = float(sum);
                    }
            }
    }
};

void convolve_weights(const ConvolutionRun& run) {
    ConvolutionWeights weights(run);
    in_bands(run, weights.bands, weights);
    weights.finish();
}

}  // namespace
