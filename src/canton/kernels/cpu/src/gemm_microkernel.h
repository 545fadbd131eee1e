// The product inside every step: rows of numbers times a weight that was packed once for the whole sequence.
//
// A row is a run of `segments` pieces of `length` floats, piece s at offset[s] from the row's start: a dense map
// has one piece; a convolution over channels-last pixels has one for each line of its kernel, and neighbouring
// rows overlap. So one kernel serves both. Every output is summed in the same order however the rows are cut into
// tiles: a row's result does not depend on its batch, nor on the number of threads.
#pragma once
#include "simd.h"

namespace {

// Lines of the cache that will be wanted soon. A tile asks for one with every k: asked for all at once, they would queue
// up before the numbers that the tile itself needs.
struct Soon {
    static constexpr int MOST = 18;  // two vectors of two places in each of four terms, a panel and the end
    struct Piece {
        const float* at;
        int64_t step, left;
    } pieces[MOST];
    int count = 0;

    void add(const float* at, int64_t step, int64_t lines) {
        if (lines > 0) pieces[count++] = {at, step, lines};
    }
    void close(const float* any) { pieces[count] = {any, 0, int64_t(1) << 62}, count = 0; }
};

// Columns are counted in vectors and lie in panels of two: panel p holds, for every k, 2W floats (W if alone).
struct Packed {
    const float* data;
    const int64_t* offset;  // of each segment, in floats
    int64_t segments, length;
    int64_t vectors;  // columns / W, every gate rounded up to whole vectors
    const Soon* soon = nullptr;  // what a tile of two vectors fetches on the way
    int64_t depth() const { return segments * length; }
};

// The rows a thread owns: the pixels [x0, x1) of the lines [line0, line1).
struct Span {
    int64_t line0, line1, x0, x1;
};

#if CANTON_WIDTH == 16
constexpr int TALL = 14;  // 28 sums, 2 columns and 1 row's number fill 32 registers
#elif CANTON_WIDTH == 8
constexpr int TALL = 6;  // 12 + 2 + 1 of 16
#else
constexpr int TALL = 6;
#endif

// The product of M rows and N vectors of columns. GCC keeps `sum` in registers only when every loop is unrolled.
// A row's floats are neighbours, rows `stride` apart; ACROSS, the floats of all rows at one depth are neighbours.
template <int M, int N, bool ACROSS>
__attribute__((noinline)) void tile(const float* a, int64_t stride, const Packed& w, const float* b,
                                           float* out) {
    V sum[M][N] = {};
    const int64_t panel = w.depth() * 2 * W;
    constexpr int step = N == 1 ? W : 2 * W;
    for (int64_t s = 0; s < w.segments; ++s) {
        const float* row = a + w.offset[s];
        const float* column = b + s * w.length * step;
        const auto once = [&]() __attribute__((always_inline)) {
            V col[N];
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n) col[n] = load(column + (n / 2) * panel + (n % 2) * W);
#pragma GCC unroll 28
            for (int m = 0; m < M; ++m) {
                V x = all(row[ACROSS ? m : m * stride]);
#pragma GCC unroll 8
                for (int n = 0; n < N; ++n) sum[m][n] += x * col[n];
            }
            row += ACROSS ? stride : 1;
            column += step;
        };
        if (N == 2 && w.soon) {
            const Soon::Piece* piece = w.soon->pieces;
            const float* soon = piece->at;
            int64_t left = piece->left, far = piece->step;
#pragma GCC unroll 2
            for (int64_t k = 0; k < w.length; ++k) {
                __builtin_prefetch(soon, 0, 2);
                soon += far;
                if (--left == 0) ++piece, soon = piece->at, left = piece->left, far = piece->step;
                once();
            }
            continue;
        }
#pragma GCC unroll 2
        for (int64_t k = 0; k < w.length; ++k) once();
    }
#pragma GCC unroll 28
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) store(out + (m * N + n) * W, sum[m][n]);
}

typedef void (*Tile)(const float*, int64_t, const Packed&, const float*, float*);

// Few rows take more columns at once, so that enough sums are under way to hide the adder's delay.
constexpr int columns_for(int64_t rows) {
    return rows == 1 ? 8 : rows == 2 ? 4 : rows == 3 && CANTON_WIDTH == 16 ? 4 : 2;
}

#define CANTON_TILE(M) tile<M, N, ACROSS>
#if CANTON_WIDTH == 16
#define CANTON_TALLER                                                                                    \
    CANTON_TILE(7), CANTON_TILE(8), CANTON_TILE(9), CANTON_TILE(10), CANTON_TILE(11), CANTON_TILE(12), \
        CANTON_TILE(13), CANTON_TILE(14)
#else
#define CANTON_TALLER nullptr
#endif

template <int N, bool ACROSS>
Tile tile_of(int rows) {
    static const Tile tiles[] = {nullptr,        CANTON_TILE(1), CANTON_TILE(2), CANTON_TILE(3),
                                 CANTON_TILE(4), CANTON_TILE(5), CANTON_TILE(6), CANTON_TALLER};
    return tiles[rows];
}

template <bool ACROSS = false>
Tile tile_for(int rows, int columns) {
    if (columns == 8) return tile<1, 8, ACROSS>;
    if (columns == 4) return rows == 1 ? tile<1, 4, ACROSS> : rows == 2 ? tile<2, 4, ACROSS> : tile<3, 4, ACROSS>;
    return columns == 2 ? tile_of<2, ACROSS>(rows) : tile_of<1, ACROSS>(rows);
}

// Calls tail(vector, line, x, rows, sums, stride) for every finished block of `rows` pixels and W columns.
// start(line) is where the line's pixel 0 lies; pixels are `stride` floats apart, or neighbours as `tile` has it.
// ahead(vector, line, x, rows) comes before a block is multiplied: it may say in w.soon what to fetch meanwhile.
template <bool ACROSS = false, class Start, class Tail, class Ahead>
void product(const Packed& w, const Span& span, int64_t stride, Start start, Tail tail, Ahead ahead) {
    alignas(64) float sums[TALL * 4 * W];
    const int64_t count = span.x1 - span.x0;
    const int64_t blocks = (count + TALL - 1) / TALL;
    for (int64_t v = 0; v < w.vectors;) {
        int64_t n = columns_for(count);
        while (n > w.vectors - v) n /= 2;
        const float* b = w.data + (v / 2) * w.depth() * 2 * W;
        for (int64_t line = span.line0; line < span.line1; ++line) {
            const float* a = start(line);
            for (int64_t i = 0; i < blocks; ++i) {
                const int64_t x = span.x0 + count * i / blocks;
                const int rows = int(span.x0 + count * (i + 1) / blocks - x);
                for (int64_t j = 0; j < n; ++j) ahead(v + j, line, x, rows);
                tile_for<ACROSS>(rows, int(n))(a + x * (ACROSS ? 1 : stride), stride, w, b, sums);
                for (int64_t j = 0; j < n; ++j) tail(v + j, line, x, rows, sums + j * W, n * W);
            }
        }
        v += n;
    }
}

}  // namespace
