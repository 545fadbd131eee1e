// A product of two large matrices: what a map does to all time steps at once, and its gradients. Both matrices are packed
// block by block into what product.h multiplies; it reaches more of the processor than a library does that must serve
// every shape. A sum runs over the depth in one order, whatever the number of threads.
#pragma once
#include "field.h"
#include "pool.h"

namespace {

struct Matmul {
    static constexpr int64_t HIGH = 8 * TALL, DEEP = 1024;  // of a block: its rows lie in a core's second cache

    const MatmulRun& run;
    Memory memory;
    int64_t zero = 0, vectors, blocks;  // blocks of depth
    float* columns;                     // b at the depth that is under way, shared by all threads

    explicit Matmul(const MatmulRun& run_) : run(run_) {
        vectors = (run.columns + W - 1) / W, blocks = (run.depth + DEEP - 1) / DEEP;
        columns = memory.floats(((run.depth + blocks - 1) / blocks) * vectors * W);
    }

    void work(const Team& team) const {
        Memory mine;
        float* rows = mine.floats(HIGH * (DEEP + 16));
        const int64_t units = (run.rows + TALL - 1) / TALL;
        const int64_t end = units * (team.index + 1) / team.count * TALL, last = end < run.rows ? end : run.rows;
        for (int64_t block = 0; block < blocks; ++block) {
            const int64_t k0 = run.depth * block / blocks, depth = run.depth * (block + 1) / blocks - k0;
            if (block) team.wait();
            pack_columns(k0, depth, team);
            team.wait();
            for (int64_t row = units * team.index / team.count * TALL; row < last; row += HIGH)
                multiply(row, last - row < HIGH ? last - row : HIGH, k0, depth, rows);
        }
    }

    // A thread's part of the panels; the lanes beyond the last column hold zeros.
    void pack_columns(int64_t k0, int64_t depth, const Team& team) const {
        if (run.b_column == 1) {  // row by row, as they lie
            const int64_t end = depth * (team.index + 1) / team.count;
            for (int64_t k = depth * team.index / team.count; k < end; ++k) {
                const float* from = run.b + (k0 + k) * run.b_depth;
                for (int64_t v = 0; v < vectors; ++v) {
                    float* to = panel(v, depth) + k * step(v) + v % 2 * W;
                    store(to, load(from + v * W, int(run.columns - v * W < W ? run.columns - v * W : W)));
                }
            }
            return;
        }
        for (int64_t v = team.index; v < vectors; v += team.count) {
            const int64_t wide = step(v), n = run.columns - v * W < W ? run.columns - v * W : W;
            float* to = panel(v, depth) + v % 2 * W;
            const float* from = run.b + v * W * run.b_column + k0;
            for (int64_t k = 0; k < depth; k += 16) {  // a line of the cache at a time
                const int64_t end = depth - k < 16 ? depth : k + 16;
                for (int64_t lane = 0; lane < n; ++lane)
                    for (int64_t i = k; i < end; ++i) to[i * wide + lane] = from[lane * run.b_column + i];
                for (int64_t lane = n; lane < W; ++lane)
                    for (int64_t i = k; i < end; ++i) to[i * wide + lane] = 0;
            }
        }
    }
    float* panel(int64_t v, int64_t depth) const { return columns + v / 2 * depth * 2 * W; }
    int64_t step(int64_t v) const { return v + 1 < vectors || v % 2 ? 2 * W : W; }

    void multiply(int64_t row0, int64_t count, int64_t k0, int64_t depth, float* rows) const {
        const Packed packed{columns, &zero, 1, depth, vectors};
        const Span span{0, 1, 0, count};
        const float* bias = k0 ? nullptr : run.bias;
        const auto start = [&](int64_t) { return rows; };
        const auto tail = [&](int64_t v, int64_t, int64_t x, int high, const float* sums, int64_t step) {
            const int n = int(run.columns - v * W < W ? run.columns - v * W : W);
            float* to = result(v, row0 + x);
            const V more = bias ? load(bias + v * W, n) : V{};
            for (int i = 0; i < high; ++i, to += run.c_row)
                store(to, load(sums + i * step) + (k0 ? load(to, n) : more), n);
        };
        const auto ahead = [&](int64_t v, int64_t, int64_t x, int high) {
            for (int i = 0; i < high; ++i) __builtin_prefetch(result(v, row0 + x + i), 1);
            const int64_t next = v / 2 * 2 + 2, size = next < vectors ? depth * step(next) : 0;  // half a panel a vector
            const int64_t end = size * (2 * x + (v % 2 + 1) * high) / (2 * count);
            for (int64_t i = size * (2 * x + v % 2 * high) / (2 * count); i < end; i += 16)
                __builtin_prefetch(panel(next, depth) + i, 0, 2);
        };
        const float* from = run.a + row0 * run.a_row + k0 * run.a_depth;
        if (run.a_depth == 1) {
            const int64_t stride = (depth + 15) / 16 * 16 + 16;  // lest rows share cache sets
            for (int64_t i = 0; i < count; ++i) memcpy(rows + i * stride, from + i * run.a_row, size_t(depth) * 4);
            product(packed, span, stride, start, tail, ahead);
        } else {
            for (int64_t k = 0; k < depth; ++k, from += run.a_depth) {
                for (int64_t i = 0; i < count; i += 16) __builtin_prefetch(from + 8 * run.a_depth + i);
                memcpy(rows + k * HIGH, from, size_t(count) * 4);
            }
            product<true>(packed, span, HIGH, start, tail, ahead);
        }
    }
    float* result(int64_t v, int64_t row) const { return run.c + row * run.c_row + v * W; }
};

void matmul(const MatmulRun& run) {
    Matmul matmul(run);
    canton_together((run.rows + TALL - 1) / TALL, run.threads, true, &matmul,
                    [](void* p, const Team& team) { static_cast<Matmul*>(p)->work(team); });
}

}  // namespace
