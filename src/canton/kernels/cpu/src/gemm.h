// A product of two large matrices: what a map does to all time steps at once, and its gradients. Both matrices are packed
// block by block into what product.h multiplies; it reaches more of the processor than a library does that must serve
// every shape. Very large ones go by Strassen's recipe (strassen.h), whose blocks' sums are made while packing and writing.
// A sum runs over the depth in one order, whatever the number of threads.
#pragma once
#include "padded_image.h"
#include "thread_pool.h"
#include "strassen.h"

namespace {

struct Matmul {
    static constexpr int64_t HIGH = 8 * TALL, DEEP = 1024;  // of a block: its rows lie in a core's second cache
    static constexpr int64_t SLICE = 64;                    // of depth: as much of b is packed at once

    const MatmulRun& run;
    const Recipe& how;
    Memory memory;
    int64_t zero = 0;
    int64_t vectors, rows, blocks, deepest;  // of a block of b, of a block of a; in depth, and how deep each
    int64_t next_row, next_block;            // rows from one to the next inside a block, and from block to block
    float* columns;                          // b at the depth that is under way, shared by all threads

    explicit Matmul(const MatmulRun& run_) : run(run_), how(recipe(run_.levels)) {
        vectors = parts(parts(run.columns, W), how.side), rows = parts(run.rows, how.side);
        blocks = parts(run.depth, DEEP), deepest = parts(parts(run.depth, blocks), how.side);
        // Neighbouring rows are partners in Strassen's sums; but rows that lie across are read in runs.
        next_row = run.a_depth == 1 ? how.side : 1, next_block = run.a_depth == 1 ? 1 : rows;
        columns = memory.floats(how.products * deepest * vectors * W);
    }
    static int64_t parts(int64_t n, int64_t size) { return (n + size - 1) / size; }
    static int64_t clip(int64_t n, int64_t most) { return n < 0 ? 0 : n < most ? n : most; }

    // What a thread needs: its rows of a, block by block, and their sum; its rows of c as long as they are unfinished.
    struct Mine {
        Memory memory;
        float *slices, *blocks, *sum, *kept;

        explicit Mine(const Matmul& m) {
            const int64_t squares = m.how.side == 1 ? 0 : m.how.side * m.how.side, each = HIGH * (m.deepest + 32);
            slices = memory.floats(squares * SLICE * 2 * W), blocks = memory.floats(squares * each);
            sum = memory.floats(each), kept = memory.floats(squares * m.vectors * HIGH * W);
        }
    };

    struct Depth {
        int64_t start, size, each;  // each: of a block in Strassen's recipe; the last may be shorter
        int64_t first(int block) const { return start + block * each; }
        int64_t length(int block) const { return clip(size - block * each, each); }
    };

    void work(const Team& team) const {
        const Mine mine(*this);
        const int64_t units = parts(rows, TALL);
        const int64_t end = units * (team.index + 1) / team.count * TALL, last = end < rows ? end : rows;
        for (int64_t block = 0; block < blocks; ++block) {
            const int64_t k0 = run.depth * block / blocks, size = run.depth * (block + 1) / blocks - k0;
            const Depth at{k0, size, parts(size, how.side)};
            if (block) team.wait();
            pack_columns(at, team, mine);
            team.wait();
            for (int64_t row = units * team.index / team.count * TALL; row < last; row += HIGH)
                multiply(row, last - row < HIGH ? last - row : HIGH, at, mine);
        }
    }

    // A thread's part of the panels, slice by slice.
    void pack_columns(const Depth& at, const Team& team, const Mine& mine) const {
        for (int64_t k = 0; k < at.each; k += SLICE) {
            const int64_t size = clip(at.each - k, SLICE);
            for (int64_t v = 2 * team.index; v < vectors; v += 2 * team.count) {
                const int64_t wide = step(v), piece = size * wide;
                for (int row = 0; row < how.side; ++row)
                    for (int column = 0; column < how.side; ++column)
                        for (int64_t i = 0; i < wide / W; ++i)
                            gather(at.first(row) + k, clip(at.length(row) - k, size), size,
                                   (column * vectors + v + i) * W, wide,
                                   (how.side == 1 ? panel(0, v, at.each) + k * wide
                                                  : mine.slices + (row * how.side + column) * piece) + i * W);
                for (int i = 0; how.side > 1 && i < how.products; ++i) {
                    float* to = panel(i, v, at.each) + k * wide;
                    const float* from = summed(how.b[i], mine.slices, how.side, piece, to);
                    if (from != to) memcpy(to, from, size_t(piece) * 4);
                }
            }
        }
    }

    // `there` of `size` rows of b from row k0, W columns, into every `wide` floats; beyond b's last row and column, zeros.
    void gather(int64_t k0, int64_t there, int64_t size, int64_t column, int64_t wide, float* to) const {
        const int64_t n = clip(run.columns - column, W);
        if (n == 0) there = 0;
        const float* from = run.b + k0 * run.b_depth + column * run.b_column;
        if (run.b_column == 1) {
            for (int64_t k = 0; k < there; ++k, from += run.b_depth) {
                __builtin_prefetch(from + 2 * W);
                store(to + k * wide, load(from, int(n)));
            }
        } else {
            for (int64_t k = 0; k < there; k += 16) {  // a line of the cache at a time
                const int64_t end = there - k < 16 ? there : k + 16;
                for (int64_t lane = 0; lane < n; ++lane)
                    for (int64_t i = k; i < end; ++i) to[i * wide + lane] = from[lane * run.b_column + i];
                for (int64_t lane = n; lane < W; ++lane)
                    for (int64_t i = k; i < end; ++i) to[i * wide + lane] = 0;
            }
        }
        for (int64_t k = there; k < size; ++k) store(to + k * wide, V{});
    }
    float* panel(int64_t i, int64_t v, int64_t depth) const { return columns + (i * vectors + v / 2 * 2) * depth * W; }
    int64_t step(int64_t v) const { return v + 1 < vectors || v % 2 ? 2 * W : W; }

    // `count` rows of every block from row0 on: packed, then multiplied by all products of the recipe.
    void multiply(int64_t row0, int64_t count, const Depth& at, const Mine& mine) const {
        const bool across = run.a_depth != 1;
        const int64_t stride = across ? HIGH : (at.each + 15) / 16 * 16 + 16;  // lest rows share cache sets
        const int64_t size = stride * (across ? at.each : count);
        float* blocks = how.side == 1 ? mine.sum : mine.blocks;
        int64_t there[4];
        for (int row = 0; row < how.side; ++row) {
            there[row] = clip(parts(run.rows - row * next_block, next_row) - row0, count);
            for (int column = 0; column < how.side; ++column) {
                float* to = blocks + (row * how.side + column) * size;
                const float* from = run.a + (row * next_block + row0 * next_row) * run.a_row + at.first(column) * run.a_depth;
                const int64_t length = at.length(column), lines = across ? length : there[row];
                const int64_t line = across ? there[row] : length, next = across ? run.a_depth : next_row * run.a_row;
                for (int64_t i = 0; i < lines; ++i, to += stride, from += next) {
                    for (int64_t j = 0; across && j < line; j += 16) __builtin_prefetch(from + 8 * next + j);
                    memcpy(to, from, size_t(line) * 4);
                    if (line < stride) memset(to + line, 0, size_t(stride - line) * 4);
                }
                memset(to, 0, size_t((across ? at.each : count) - lines) * size_t(stride) * 4);
            }
        }
        for (int i = 0; i < how.products; ++i) {
            const float* sum = summed(how.a[i], blocks, how.side, size, mine.sum);
            if (across) multiply<true>(i, row0, count, there, at, sum, stride, mine.kept);
            else multiply<false>(i, row0, count, there, at, sum, stride, mine.kept);
        }
    }

    template <bool ACROSS>
    void multiply(int i, int64_t row0, int64_t count, const int64_t* there, const Depth& at, const float* rows,
                  int64_t stride, float* kept) const {
        const int64_t depth = at.each, next = next_row * run.c_row;
        Soon soon;
        const Packed b{panel(i, 0, depth), &zero, 1, depth, vectors, &soon};
        const Sum& c = how.c[i];
        const auto result = [&](const Term& term, int64_t v, int64_t x) {
            return run.c + (term.row * next_block + (row0 + x) * next_row) * run.c_row + (term.column * vectors + v) * W;
        };
        const auto unfinished = [&](const Term& term, int64_t v, int64_t x) {
            return kept + (((term.row * how.side + term.column) * vectors + v) * HIGH + x) * W;
        };
        const auto tail = [&](int64_t v, int64_t, int64_t x, int high, const float* sums, int64_t step) {
            for (int t = 0; t < c.count; ++t) {
                const Term& term = c.terms[t];
                const int64_t column = (term.column * vectors + v) * W, lines = clip(there[term.row] - x, high);
                const int n = int(clip(run.columns - column, W));
                if (n == 0) continue;
                const bool alone = term.first && !at.start;
                const V more = alone && run.bias ? load(run.bias + column, n) : V{};
                float *to = result(term, v, x), *held = unfinished(term, v, x), *goal = term.last ? to : held;
                const float* base = term.first ? to : held;
                const int64_t goal_step = term.last ? next : W, base_step = term.first ? next : W;
                if (n < W) {
                    for (int64_t j = 0; j < lines; ++j)
                        store(goal + j * goal_step,
                              load(sums + j * step) * term.sign + (alone ? more : load(base + j * base_step, n)), n);
                } else if (alone) {
                    for (int64_t j = 0; j < lines; ++j)
                        store(goal + j * goal_step, load(sums + j * step) * term.sign + more);
                } else {
                    for (int64_t j = 0; j < lines; ++j)
                        store(goal + j * goal_step, load(sums + j * step) * term.sign + load(base + j * base_step));
                }
            }
        };
        const auto ahead = [&](int64_t v, int64_t, int64_t x, int high) {
            for (int t = 0; t < c.count; ++t) {
                const Term& term = c.terms[t];
                if (term.last || (term.first && at.start)) soon.add(result(term, v, x), next, high);
                if (!(term.first && term.last)) soon.add(unfinished(term, v, x), W, high);
            }
            if (v % 2 == 0 && v + 1 < vectors) return;
            const int64_t after = v / 2 * 2 + 2, size = after < vectors ? depth * step(after) / 16 : 0;
            const int64_t from = size * x / count, end = size * (x + high) / count;
            soon.add(panel(i, after, depth) + from * 16, 16, end - from);
            soon.close(columns);
        };
        product<ACROSS>(b, Span{0, 1, 0, count}, stride, [&](int64_t) { return rows; }, tail, ahead);
    }
};

void matmul(const MatmulRun& run) {
    Matmul matmul(run);
    canton_together(Matmul::parts(matmul.rows, TALL), run.threads, true, &matmul,
                    [](void* p, const Team& team) { static_cast<Matmul*>(p)->work(team); });
}

}  // namespace
