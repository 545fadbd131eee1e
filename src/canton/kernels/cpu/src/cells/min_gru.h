// The minGRU: gates that do not see the state, so a step is one pass over memory and nothing else.
// gx is (steps, width, 2 * hidden) in torch's own order of axes; `hidden` counts channels times pixels.
#pragma once
#include "abi.h"
#include "simd.h"

namespace {

struct MinGRU {
    explicit MinGRU(const Sequence&) {}

    // c = a + 1/2 where a >= 0, else sigmoid(a); NaN stays NaN.
    static INLINE V positive(V a) {
        const V low = sigmoid(a);
        return a >= all(0.0f) ? a + 0.5f : low;
    }

    // Calls visit(row, column, n) for a thread's own numbers of a step; n of them, W at most.
    template <class Visit>
    static INLINE void each(const Sequence& q, const Team& team, Visit visit) {
        const int64_t H = q.hidden, end = q.width * (team.index + 1) / team.count;
        for (int64_t row = q.width * team.index / team.count; row < end; ++row)
            for (int64_t column = 0; column < H; column += W)
                visit(row, column, int(H - column < W ? H - column : W));
    }

    void forward(const Sequence& q, const Team& team) {
        const int64_t H = q.hidden, rows = q.width;
        for (int64_t t = 0; t < q.steps; ++t) {
            const float *gx = q.gx + t * rows * 2 * H, *before = q.hs + t * rows * H;
            float* after = q.hs + (t + 1) * rows * H;
            each(q, team, [&](int64_t row, int64_t column, int n) {
                const float* in = gx + row * 2 * H + column;
                const V z = sigmoid(load(in, n)), c = positive(load(in + H, n)), h = load(before + row * H + column, n);
                store(after + row * H + column, (1.0f - z) * h + z * c, n);
            });
        }
    }

    // q.dh is carried from step to step.
    void backward(const Sequence& q, const Team& team) {
        const int64_t H = q.hidden, rows = q.width;
        for (int64_t t = q.steps - 1; t >= 0; --t) {
            const float *gx = q.gx + t * rows * 2 * H, *before = q.hs + t * rows * H, *dy = q.dys + t * rows * H;
            float* dgx = q.dgx + t * rows * 2 * H;
            each(q, team, [&](int64_t row, int64_t column, int n) {
                const int64_t in = row * 2 * H + column, at = row * H + column;
                const V a = load(gx + in + H, n), z = sigmoid(load(gx + in, n)), c = positive(a);
                const V g = load(q.dh + at, n) + load(dy + at, n);
                const V slope = a >= all(0.0f) ? all(1.0f) : c * (1.0f - c);
                store(dgx + in, g * (c - load(before + at, n)) * (z * (1.0f - z)), n);
                store(dgx + in + H, g * z * slope, n);
                store(q.dh + at, g * (1.0f - z), n);
            });
        }
    }
};

}  // namespace
