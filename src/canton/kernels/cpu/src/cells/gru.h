// The article's GRU: z and r from h, the candidate from r * h, h' = (1 - z) h + z c.
#pragma once
#include "batch_partition.h"
#include "winograd.h"

namespace {

struct GRUBefore {
    Memory memory;
    Field h, rh;
    Map gates, candidate;
    float* z;

    explicit GRUBefore(const Sequence& q) : h(q, q.hidden, false, memory), rh(q, q.hidden, false, memory) {
        gates.fill(q, q.first, 2, q.hidden, q.hidden, false, h, memory);
        candidate.fill(q, q.second, 1, q.hidden, q.hidden, false, rh, memory);
        z = q.acts ? nullptr : memory.floats(q.pixels() * q.hidden);
    }

    void forward(const Sequence& q, const Team& team) {
        Rows batch(q, team);
        const int64_t H = q.hidden, pixels = q.pixels(), per_gate = (H + W - 1) / W;
        for (int64_t line = batch.own.line0; line < batch.own.line1; ++line)
            for (int64_t x = batch.own.x0; x < batch.own.x1; ++x)
                memcpy(h.pixel(line, x), q.hs + batch.place(line, x)(0) * H, size_t(H) * 4);
        for (int64_t t = 0; t < q.steps; ++t) {
            const float* gx = q.gx + t * pixels * 3 * H;
            float* after = q.hs + (t + 1) * pixels * H;
            float* acts = q.acts ? q.acts + t * pixels * 3 * H : nullptr;
            float* take = acts ? acts : z;
            const int64_t take_step = acts ? 3 * H : H;
            const Span now = batch.at(t);
            batch.restarts(t, now, [&](int64_t row, int64_t line, int64_t x) {
                memcpy(h.pixel(line, x), q.fresh + row * H, size_t(H) * 4);
            });
            batch.clear(after, H, now);
            team.wait();
            if (q.circular) h.wrap(now.line0, now.line1);
            gates.apply(h, now, team.index, [&](int64_t v, int64_t line, int64_t x, int rows, const float* sums, int64_t step) {
                        const int64_t gate = v / per_gate, column = v % per_gate * W;
                        const Place row = batch.place(line, x);
                        const int n = int(H - column < W ? H - column : W);
                        const float* in = gx + gate * H + column;
                        if (gate == 0) {
                            for (int i = 0; i < rows; ++i) {
                                V z = sigmoid(load(sums + i * step) + load(in + row(i) * 3 * H, n));
                                store(take + row(i) * take_step + column, z, n);
                            }
                            return;
                        }
                        const float* past = h.pixel(line, x) + column;
                        float* seen = rh.pixel(line, x) + column;
                        for (int i = 0; i < rows; ++i) {
                            V r = sigmoid(load(sums + i * step) + load(in + row(i) * 3 * H, n));
                            store(seen + i * rh.stride, r * load(past + i * h.stride, n), n);
                            if (acts) store(acts + row(i) * 3 * H + H + column, r, n);
                        }
                    });
            team.wait();
            if (q.circular) rh.wrap(now.line0, now.line1);
            candidate.apply(rh, now, team.index, [&](int64_t v, int64_t line, int64_t x, int rows, const float* sums, int64_t step) {
                        const int64_t column = v * W;
                        const Place row = batch.place(line, x);
                        const int n = int(H - column < W ? H - column : W);
                        const float* in = gx + 2 * H + column;
                        float* state = h.pixel(line, x) + column;
                        for (int i = 0; i < rows; ++i) {
                            V c = tanh(load(sums + i * step) + load(in + row(i) * 3 * H, n));
                            V took = load(take + row(i) * take_step + column, n);
                            V next = (1.0f - took) * load(state + i * h.stride, n) + took * c;
                            store(after + row(i) * H + column, next, n);
                            store(state + i * h.stride, next, n);
                            if (acts) store(acts + row(i) * 3 * H + 2 * H + column, c, n);
                        }
                    });
        }
    }
};

struct GRUBeforeGradient {
    Memory memory;
    Field dgates, dcandidate;
    Map gates, candidate;

    explicit GRUBeforeGradient(const Sequence& q)
        : dgates(q, 2 * q.hidden, true, memory), dcandidate(q, q.hidden, true, memory) {
        gates.fill(q, q.first, 1, q.hidden, 2 * q.hidden, true, dgates, memory);
        candidate.fill(q, q.second, 1, q.hidden, q.hidden, true, dcandidate, memory);
    }

    // q.dh is carried from step to step; of q.hs a restarted row's is what it started from.
    void backward(const Sequence& q, const Team& team) {
        Rows batch(q, team);
        const int64_t H = q.hidden, pixels = q.pixels();
        for (int64_t t = q.steps - 1; t >= 0; --t) {
            const float* acts = q.acts + t * pixels * 3 * H;
            const float* before = q.hs + t * pixels * H;
            const float* dy = q.dys + t * pixels * H;
            float* dgx = q.dgx + t * pixels * 3 * H;
            float* seen = q.seen + t * pixels * H;
            const Span now = batch.at(t);
            batch.clear(dgx, 3 * H, now);
            batch.clear(seen, H, now);
            team.wait();
            for (int64_t line = now.line0; line < now.line1; ++line)
                for (int64_t x = now.x0; x < now.x1; ++x) {
                    const int64_t row = batch.place(line, x)(0);
                    float *dz = dgates.pixel(line, x), *dc = dcandidate.pixel(line, x);
                    for (int64_t column = 0; column < H; column += W) {
                        const int n = int(H - column < W ? H - column : W);
                        const float* act = acts + row * 3 * H + column;
                        V z = load(act, n), r = load(act + H, n), c = load(act + 2 * H, n);
                        V h = load(before + row * H + column, n);
                        V dh = load(q.dh + row * H + column, n) + load(dy + row * H + column, n);
                        V gz = dh * (c - h) * (z * (1.0f - z)), gc = dh * z * (1.0f - c * c);
                        store(dgx + row * 3 * H + column, gz, n);
                        store(dgx + row * 3 * H + 2 * H + column, gc, n);
                        store(dz + column, gz, n);
                        store(dc + column, gc, n);
                        store(seen + row * H + column, r * h, n);
                        store(q.dh + row * H + column, dh * (1.0f - z), n);
                    }
                }
            team.wait();
            if (q.circular) dcandidate.wrap(now.line0, now.line1);
            candidate.apply(dcandidate, now, team.index, [&](int64_t v, int64_t line, int64_t x, int rows, const float* sums, int64_t step) {
                        const int64_t column = v * W;
                        const Place at = batch.place(line, x);
                        const int n = int(H - column < W ? H - column : W);
                        float* out = dgates.pixel(line, x) + H + column;
                        for (int i = 0; i < rows; ++i) {
                            const int64_t row = at(i);
                            V r = load(acts + row * 3 * H + H + column, n), h = load(before + row * H + column, n);
                            V drh = load(sums + i * step);
                            V gr = drh * h * (r * (1.0f - r));
                            float* dh = q.dh + row * H + column;
                            store(dgx + row * 3 * H + H + column, gr, n);
                            store(out + i * dgates.stride, gr, n);
                            store(dh, load(dh, n) + drh * r, n);
                        }
                    });
            team.wait();
            if (q.circular) dgates.wrap(now.line0, now.line1);
            gates.apply(dgates, now, team.index, [&](int64_t v, int64_t line, int64_t x, int rows, const float* sums, int64_t step) {
                        const int64_t column = v * W;
                        const Place row = batch.place(line, x);
                        const int n = int(H - column < W ? H - column : W);
                        for (int i = 0; i < rows; ++i) {
                            float* dh = q.dh + row(i) * H + column;
                            store(dh, load(dh, n) + load(sums + i * step), n);
                        }
                    });
            batch.hand_over(t, now, q.dh, q.dfresh);
        }
    }
};

}  // namespace
