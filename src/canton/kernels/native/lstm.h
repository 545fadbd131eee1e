// The plain long short-term memory: i, f, g, o from h, c' = f c + i g, h' = o tanh(c').
#pragma once
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
        const Span own = share(q, team);
        const int64_t H = q.hidden, pixels = q.pixels(), per_gate = (H + W - 1) / W;
        for (int64_t line = own.line0; line < own.line1; ++line)
            for (int64_t x = own.x0; x < own.x1; ++x)
                memcpy(even.pixel(line, x), q.hs + (line * q.width + x) * H, size_t(H) * 4);
        for (int64_t t = 0; t < q.steps; ++t) {
            const Field &seen = t % 2 ? odd : even, &next = t % 2 ? even : odd;
            const float *gx = q.gx + t * pixels * 4 * H, *before = q.cs + t * pixels * H;
            float *h = q.hs + (t + 1) * pixels * H, *c = q.cs + (t + 1) * pixels * H;
            float* acts = q.acts ? q.acts + t * pixels * 5 * H : gates;
            const int64_t act = q.acts ? 5 * H : 3 * H;
            team.wait();
            if (q.circular) seen.wrap(own.line0, own.line1);
            map.apply(seen, own, team.index, [&](int64_t v, int64_t line, int64_t x, int rows, const float* sums, int64_t step) {
                        const int64_t gate = v / per_gate, column = v % per_gate * W, row = line * q.width + x;
                        const int n = int(H - column < W ? H - column : W);
                        const float* in = gx + row * 4 * H + gate * H + column;
                        float* out = acts + row * act + column;
                        if (gate < 3) {
                            for (int i = 0; i < rows; ++i) {
                                const V sum = load(sums + i * step) + load(in + i * 4 * H, n);
                                store(out + gate * H + i * act, gate == 2 ? tanh(sum) : sigmoid(sum), n);
                            }
                            return;
                        }
                        float* state = next.pixel(line, x) + column;
                        for (int i = 0; i < rows; ++i, out += act) {
                            const int64_t at = (row + i) * H + column;
                            const V o = sigmoid(load(sums + i * step) + load(in + i * 4 * H, n));
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
        const Span own = share(q, team);
        const int64_t H = q.hidden, pixels = q.pixels();
        for (int64_t t = q.steps - 1; t >= 0; --t) {
            const float *acts = q.acts + t * pixels * 5 * H, *before = q.cs + t * pixels * H, *dy = q.dys + t * pixels * H;
            float* dgx = q.dgx + t * pixels * 4 * H;
            team.wait();
            for (int64_t line = own.line0; line < own.line1; ++line)
                for (int64_t x = own.x0; x < own.x1; ++x) {
                    const int64_t row = line * q.width + x;
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
            if (q.circular) d.wrap(own.line0, own.line1);
            map.apply(d, own, team.index, [&](int64_t v, int64_t line, int64_t x, int rows, const float* sums, int64_t step) {
                        const int n = int(H - v * W < W ? H - v * W : W);
                        for (int i = 0; i < rows; ++i)
                            store(q.dh + (line * q.width + x + i) * H + v * W, load(sums + i * step), n);
                    });
        }
    }
};

}  // namespace
