// A product of two large matrices: what a map does to all time steps at once, and its gradients. Both matrices are packed
// block by block for gemm_microkernel.h. A sum runs over the depth in one order, whatever the number of threads.
#pragma once
#include "padded_image.h"
#include "thread_pool.h"

namespace {

struct Gemm {
    static constexpr int64_t MAX_BLOCK_ROWS = 8 * KERNEL_ROWS, MAX_BLOCK_DEPTH = 1024;  // a block fits in a core's second cache
    static constexpr int64_t SLICE = 64;                                               // depth of b that is packed at once

    const GemmRun& run;
    Workspace workspace;
    int64_t zero = 0;
    int64_t vectors, blocks, deepest;  // of a row of b; blocks along the depth, and the depth of the deepest
    float* columns;                    // b at the current depth, packed, shared by all threads

    explicit Gemm(const GemmRun& run_) : run(run_) {
        vectors = parts(run.columns, W);
        blocks = parts(run.depth, MAX_BLOCK_DEPTH), deepest = parts(run.depth, blocks);
        columns = workspace.floats(deepest * vectors * W);
    }
    static int64_t parts(int64_t n, int64_t size) { return (n + size - 1) / size; }
    static int64_t clip(int64_t n, int64_t most) { return n < 0 ? 0 : n < most ? n : most; }

    void work(const ThreadTeam& team) const {
        Workspace own;
        float* rows = own.floats(MAX_BLOCK_ROWS * (deepest + 32));  // a block of a, packed
        const int64_t units = parts(run.rows, KERNEL_ROWS);
        const int64_t end = units * (team.index + 1) / team.count * KERNEL_ROWS, last = end < run.rows ? end : run.rows;
        for (int64_t block = 0; block < blocks; ++block) {
            const int64_t k0 = run.depth * block / blocks, depth = run.depth * (block + 1) / blocks - k0;
            if (block) team.wait();
            pack_columns(k0, depth, team);
            team.wait();
            for (int64_t row = units * team.index / team.count * KERNEL_ROWS; row < last; row += MAX_BLOCK_ROWS) {
                const int64_t count = clip(last - row, MAX_BLOCK_ROWS);
                if (run.a_depth == 1) multiply<false>(row, count, k0, depth, rows);
                else multiply<true>(row, count, k0, depth, rows);
            }
        }
    }

    // A thread's part of the panels, slice by slice.
    void pack_columns(int64_t k0, int64_t depth, const ThreadTeam& team) const {
        for (int64_t k = 0; k < depth; k += SLICE)
            for (int64_t v = 2 * team.index; v < vectors; v += 2 * team.count)
                for (int64_t i = 0, wide = step(v); i < wide / W; ++i)
                    pack_vector(k0 + k, clip(depth - k, SLICE), (v + i) * W, wide, panel(v, depth) + k * wide + i * W);
    }

    // `size` rows of b from row k0, W columns, into every `wide` floats; zeros beyond b's last column.
    void pack_vector(int64_t k0, int64_t size, int64_t column, int64_t wide, float* to) const {
        const int64_t n = clip(run.columns - column, W);
        const float* from = run.b + k0 * run.b_depth + column * run.b_column;
        if (run.b_column == 1) {
            for (int64_t k = 0; k < size; ++k, from += run.b_depth) {
                __builtin_prefetch(from + 2 * W);
                store(to + k * wide, load(from, int(n)));
            }
            return;
        }
        for (int64_t k = 0; k < size; k += 16) {  // one cache line at a time
            const int64_t end = size - k < 16 ? size : k + 16;
            for (int64_t lane = 0; lane < n; ++lane)
                for (int64_t i = k; i < end; ++i) to[i * wide + lane] = from[lane * run.b_column + i];
            for (int64_t lane = n; lane < W; ++lane)
                for (int64_t i = k; i < end; ++i) to[i * wide + lane] = 0;
        }
    }
    float* panel(int64_t v, int64_t depth) const { return columns + v / 2 * 2 * depth * W; }
    int64_t step(int64_t v) const { return v + 1 < vectors || v % 2 ? 2 * W : W; }

    // `count` rows of a from row0 on, at `depth` numbers from k0 on: packed into `rows`, then multiplied. ACROSS: a's rows
    // are neighbours in memory, so it is packed depth by depth.
    template <bool ACROSS>
    void multiply(int64_t row0, int64_t count, int64_t k0, int64_t depth, float* rows) const {
        const int64_t stride = ACROSS ? MAX_BLOCK_ROWS : (depth + 15) / 16 * 16 + 16;  // so that rows do not share cache sets
        const float* from = run.a + row0 * run.a_row + k0 * run.a_depth;
        const int64_t lines = ACROSS ? depth : count, length = ACROSS ? count : depth, next = ACROSS ? run.a_depth : run.a_row;
        float* to = rows;
        for (int64_t i = 0; i < lines; ++i, to += stride, from += next) {
            for (int64_t j = 0; ACROSS && j < length; j += 16) __builtin_prefetch(from + 8 * next + j);
            memcpy(to, from, size_t(length) * 4);
            if (length < stride) memset(to + length, 0, size_t(stride - length) * 4);
        }
        PrefetchQueue prefetch;
        const PackedMatrix b{columns, &zero, 1, depth, vectors, &prefetch};
        const bool first = !k0;
        const auto result = [&](int64_t v, int64_t x) { return run.c + (row0 + x) * run.c_row + v * W; };
        const auto tail = [&](int64_t v, int64_t, int64_t x, int high, const float* sums, int64_t step) {
            const int n = int(clip(run.columns - v * W, W));
            float* c = result(v, x);
            if (first) {
                const V bias = run.bias ? load(run.bias + v * W, n) : V{};
                for (int64_t j = 0; j < high; ++j) store(c + j * run.c_row, load(sums + j * step) + bias, n);
            } else {
                for (int64_t j = 0; j < high; ++j, c += run.c_row) store(c, load(sums + j * step) + load(c, n), n);
            }
        };
        const auto ahead = [&](int64_t v, int64_t, int64_t x, int high) {
            prefetch.add(result(v, x), run.c_row, high);
            if (v % 2 == 0 && v + 1 < vectors) return;
            const int64_t after = v / 2 * 2 + 2, size = after < vectors ? depth * step(after) / 16 : 0;
            const int64_t start = size * x / count, end = size * (x + high) / count;
            prefetch.add(panel(after, depth) + start * 16, 16, end - start);
            prefetch.close(columns);
        };
        product<ACROSS>(b, Range{0, 1, 0, count}, stride, [&](int64_t) { return rows; }, tail, ahead);
    }
};

void gemm(const GemmRun& run) {
    Gemm gemm(run);
    canton_parallel_pieces(Gemm::parts(run.rows, KERNEL_ROWS), run.threads, true, &gemm,
                           [](void* p, const ThreadTeam& team) { static_cast<Gemm*>(p)->work(team); });
}

}  // namespace
