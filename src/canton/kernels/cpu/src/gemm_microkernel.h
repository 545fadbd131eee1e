// The product inside every step: rows of numbers times a weight that is packed once for the whole sequence.
//
// A row has `segments` pieces of `length` floats; piece s starts offset[s] floats after the row. A dense map has one piece. A
// convolution over channels-last pixels has one for each line of its kernel, and neighbouring rows overlap. Every output is
// summed in the same order for any number of rows, so a row's result depends neither on its batch nor on the threads.
#pragma once
#include "simd.h"

namespace {

// Cache lines that are needed soon. A micro-kernel prefetches one with every k; all at once would delay the numbers that
// it needs itself.
struct PrefetchQueue {
    static constexpr int MAX_PIECES = 4;  // two vectors of the result, a panel and the end
    struct Piece {
        const float* at;
        int64_t step, left;
    } pieces[MAX_PIECES];
    int count = 0;

    void add(const float* at, int64_t step, int64_t lines) {
        if (lines > 0) pieces[count++] = {at, step, lines};
    }
    void close(const float* any) { pieces[count] = {any, 0, int64_t(1) << 62}, count = 0; }
};

// Columns are counted in vectors and lie in panels of two: panel p holds, for every k, 2W floats (W if alone).
struct PackedMatrix {
    const float* data;
    const int64_t* offset;  // of each segment, in floats
    int64_t segments, length;
    int64_t vectors;  // columns / W, every gate rounded up to whole vectors
    const PrefetchQueue* prefetch = nullptr;  // what a micro-kernel of two vectors prefetches
    int64_t depth() const { return segments * length; }
};

// The rows a thread owns: the pixels [x0, x1) of the lines [line0, line1).
struct Range {
    int64_t line0, line1, x0, x1;
};

#if CANTON_WIDTH == 16
constexpr int KERNEL_ROWS = 14;  // 28 sums, 2 columns and 1 row's number fill 32 registers
#elif CANTON_WIDTH == 8
constexpr int KERNEL_ROWS = 6;  // 12 + 2 + 1 of 16
#else
constexpr int KERNEL_ROWS = 6;
#endif

// The micro-kernel: M rows times N vectors of columns. GCC keeps `sum` in registers only when every loop is unrolled.
// A row's floats are neighbours, rows `stride` apart; ACROSS, the floats of all rows at one depth are neighbours.
template <int M, int N, bool ACROSS>
__attribute__((noinline)) void micro_kernel(const float* a, int64_t stride, const PackedMatrix& w, const float* b,
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
        if (N == 2 && w.prefetch) {
            const PrefetchQueue::Piece* piece = w.prefetch->pieces;
            const float* prefetch = piece->at;
            int64_t left = piece->left, far = piece->step;
#pragma GCC unroll 2
            for (int64_t k = 0; k < w.length; ++k) {
                __builtin_prefetch(prefetch, 0, 2);
                prefetch += far;
                if (--left == 0) ++piece, prefetch = piece->at, left = piece->left, far = piece->step;
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

typedef void (*MicroKernel)(const float*, int64_t, const PackedMatrix&, const float*, float*);

// Few rows take more columns at once, so that there are enough sums to hide the latency of the addition.
constexpr int columns_for(int64_t rows) {
    return rows == 1 ? 8 : rows == 2 ? 4 : rows == 3 && CANTON_WIDTH == 16 ? 4 : 2;
}

#define CANTON_KERNEL(M) micro_kernel<M, N, ACROSS>
#if CANTON_WIDTH == 16
#define CANTON_TALL_KERNELS                                                                                    \
    CANTON_KERNEL(7), CANTON_KERNEL(8), CANTON_KERNEL(9), CANTON_KERNEL(10), CANTON_KERNEL(11), CANTON_KERNEL(12), \
        CANTON_KERNEL(13), CANTON_KERNEL(14)
#else
#define CANTON_TALL_KERNELS nullptr
#endif

template <int N, bool ACROSS>
MicroKernel micro_kernel_of(int rows) {
    static const MicroKernel tiles[] = {nullptr,        CANTON_KERNEL(1), CANTON_KERNEL(2), CANTON_KERNEL(3),
                                 CANTON_KERNEL(4), CANTON_KERNEL(5), CANTON_KERNEL(6), CANTON_TALL_KERNELS};
    return tiles[rows];
}

template <bool ACROSS = false>
MicroKernel micro_kernel_for(int rows, int columns) {
    if (columns == 8) return micro_kernel<1, 8, ACROSS>;
    if (columns == 4) return rows == 1 ? micro_kernel<1, 4, ACROSS> : rows == 2 ? micro_kernel<2, 4, ACROSS> : micro_kernel<3, 4, ACROSS>;
    return columns == 2 ? micro_kernel_of<2, ACROSS>(rows) : micro_kernel_of<1, ACROSS>(rows);
}

// Calls tail(vector, line, x, rows, sums, stride) for every finished block of `rows` pixels and W columns.
// start(line) is where the line's pixel 0 lies; pixels are `stride` floats apart, or neighbours if ACROSS.
// ahead(vector, line, x, rows) is called before a block is multiplied; it may fill w.prefetch.
template <bool ACROSS = false, class Start, class Tail, class Ahead>
void product(const PackedMatrix& w, const Range& range, int64_t stride, Start start, Tail tail, Ahead ahead) {
    alignas(64) float sums[KERNEL_ROWS * 4 * W];
    const int64_t count = range.x1 - range.x0;
    const int64_t blocks = (count + KERNEL_ROWS - 1) / KERNEL_ROWS;
    for (int64_t v = 0; v < w.vectors;) {
        int64_t n = columns_for(count);
        while (n > w.vectors - v) n /= 2;
        const float* b = w.data + (v / 2) * w.depth() * 2 * W;
        for (int64_t line = range.line0; line < range.line1; ++line) {
            const float* a = start(line);
            for (int64_t i = 0; i < blocks; ++i) {
                const int64_t x = range.x0 + count * i / blocks;
                const int rows = int(range.x0 + count * (i + 1) / blocks - x);
                for (int64_t j = 0; j < n; ++j) ahead(v + j, line, x, rows);
                micro_kernel_for<ACROSS>(rows, int(n))(a + x * (ACROSS ? 1 : stride), stride, w, b, sums);
                for (int64_t j = 0; j < n; ++j) tail(v + j, line, x, rows, sums + j * W, n * W);
            }
        }
        v += n;
    }
}

}  // namespace
