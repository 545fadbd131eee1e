// The plain long short-term memory: i, f, g, o from h, c' = f c + i g, h' = o tanh(c').
#pragma once
#include "batch_partition.h"
#include "winograd.h"

namespace {

struct LSTM {
    Memory memory;
    Field even, odd;  // the state before even and before odd steps: one is read while the other is written
    Map map;
    float* gates;  // i, f, g of the step under way, if nothing is kept of them

    explicit LSTM(const Sequence& q) : even(q, q.hidden, false, memory), odd(q, q.hidden, false, memory) {
        map.fill(q, q.first, 4, q.hidden, q.hidden, false, even, memory);
        gates = q.acts ? nullptr : memory.floats(q.pixels() * 3 * q.hidden);
    }

    // q.acts holds i, f, g, o and tanh(c') of every step.
    void forward(const Sequence& q, const Team& team) {
        Rows batch(q, team);
        const int64_t H = q.hidden, pixels = q.pixels(), per_gate = (H + W - 1) / W;
        for (int64_t line = batch.own.line0; line < batch.own.line1; ++line)
            for (int64_t x = batch.own.x0; x < batch.own.x1; ++x)
                memcpy(even.pixel(line, x), q.hs + batch.place(line, x)(0) * H, size_t(H) * 4);
        for (int64_t t = 0; t < q.steps; ++t) {
            const Field &seen = t % 2 ? odd : even, &next = t % 2 ? even : odd;
            const float* gx = q.gx + t * pixels * 4 * H;
            float* before = q.cs + t * pixels * H;  // also where a restarted row's fresh c is put, for the way back
            float *h = q.hs + (t + 1) * pixels * H, *c = q.cs + (t + 1) * pixels * H;
            float* acts = q.acts ? q.acts + t * pixels * 5 * H : gates;
            const int64_t act = q.acts ? 5 * H : 3 * H;
            const Span now = batch.at(t);
            batch.restarts(t, now, [&](int64_t row, int64_t line, int64_t x) {
                memcpy(seen.pixel(line, x), q.fresh + row * H, size_t(H) * 4);
                memcpy(before + row * H, q.fresh_c + row * H, size_t(H) * 4);
            });
            batch.clear(h, H, now);
            team.wait();
            if (q.circular) seen.wrap(now.line0, now.line1);
            map.apply(seen, now, team.index, [&](int64_t v, int64_t line, int64_t x, int rows, const float* sums, int64_t step) {
                        const int64_t gate = v / per_gate, column = v % per_gate * W;
                        const Place row = batch.place(line, x);
                        const int n = int(H - column < W ? H - column : W);
                        const float* in = gx + gate * H + column;
                        if (gate < 3) {
                            for (int i = 0; i < rows; ++i) {
                                const V sum = load(sums + i * step) + load(in + row(i) * 4 * H, n);
                                store(acts + row(i) * act + gate * H + column, gate == 2 ? tanh(sum) : sigmoid(sum), n);
                            }
                            return;
                        }
                        float* state = next.pixel(line, x) + column;
                        for (int i = 0; i < rows; ++i) {
                            const int64_t at = row(i) * H + column;
                            float* out = acts + row(i) * act + column;
                            const V o = sigmoid(load(sums + i * step) + load(in + row(i) * 4 * H, n));
                            const V fresh = load(out + H, n) * load(before + at, n) + load(out, n) * load(out + 2 * H, n);
                            const V shown = tanh(fresh);
                            store(c + at, fresh, n);
                            store(h + at, o * shown, n);
                            store(state + i * next.stride, o * shown, n);
                            if (q.acts) store(out + 3 * H, o, n), store(out + 4 * H, shown, n);
                        }
                    });
        }
    }
};

struct LSTMGradient {
    Memory memory;
    Field d;
    Map map;

    explicit LSTMGradient(const Sequence& q) : d(q, 4 * q.hidden, true, memory) {
        map.fill(q, q.first, 1, q.hidden, 4 * q.hidden, true, d, memory);
    }

    // q.dh and q.dc are carried from step to step.
    void backward(const Sequence& q, const Team& team) {
        Rows batch(q, team);
        const int64_t H = q.hidden, pixels = q.pixels();
        for (int64_t t = q.steps - 1; t >= 0; --t) {
            const float *acts = q.acts + t * pixels * 5 * H, *before = q.cs + t * pixels * H, *dy = q.dys + t * pixels * H;
            float* dgx = q.dgx + t * pixels * 4 * H;
            const Span now = batch.at(t);
            batch.clear(dgx, 4 * H, now);
            team.wait();
            for (int64_t line = now.line0; line < now.line1; ++line)
                for (int64_t x = now.x0; x < now.x1; ++x) {
                    const int64_t row = batch.place(line, x)(0);
                    float* all = d.pixel(line, x);
                    for (int64_t column = 0; column < H; column += W) {
                        const int n = int(H - column < W ? H - column : W);
                        const int64_t at = row * H + column;
                        const float* act = acts + row * 5 * H + column;
                        const V i = load(act, n), f = load(act + H, n), g = load(act + 2 * H, n), o = load(act + 3 * H, n);
                        const V shown = load(act + 4 * H, n), dh = load(q.dh + at, n) + load(dy + at, n);
                        const V dc = load(q.dc + at, n) + dh * o * (1.0f - shown * shown);
                        const V found[4] = {dc * g * (i * (1.0f - i)), dc * load(before + at, n) * (f * (1.0f - f)),
                                            dc * i * (1.0f - g * g), dh * shown * (o * (1.0f - o))};
                        for (int gate = 0; gate < 4; ++gate) {
                            store(dgx + row * 4 * H + gate * H + column, found[gate], n);
                            store(all + gate * H + column, found[gate], n);
                        }
                        store(q.dc + at, dc * f, n);
                    }
                }
            team.wait();
            if (q.circular) d.wrap(now.line0, now.line1);
            map.apply(d, now, team.index, [&](int64_t v, int64_t line, int64_t x, int rows, const float* sums, int64_t step) {
                        const int n = int(H - v * W < W ? H - v * W : W);
                        const Place row = batch.place(line, x);
                        for (int i = 0; i < rows; ++i) store(q.dh + row(i) * H + v * W, load(sums + i * step), n);
                    });
            batch.hand_over(t, now, q.dh, q.dfresh);
            batch.hand_over(t, now, q.dc, q.dfresh_c);
        }
    }
};

}  // namespace
