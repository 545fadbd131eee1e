// The LSTM without peepholes or projection: i, f, g, o from h, c' = f c + i g, h' = o tanh(c'). Saves i, f, g, o, tanh(c').
#include "cell.h"

namespace {

struct Forward {
    Workspace workspace;
    PaddedImage even, odd;  // the state before even and before odd steps: one is read while the other is written
    MapProduct map;
    float* gates;  // i, f, g of the current step, if nothing is saved

    explicit Forward(const RecurrentRun& run) : even(run, run.hidden, false, workspace), odd(run, run.hidden, false, workspace) {
        map.fill(run, run.weights[0], 4, run.hidden, run.hidden, false, even, workspace);
        gates = run.saved ? nullptr : workspace.floats(run.pixels() * 3 * run.hidden);
    }

    void forward(const RecurrentRun& run, const ThreadTeam& team) {
        BatchPartition batch(run, team);
        const int64_t H = run.hidden, pixels = run.pixels(), per_gate = (H + W - 1) / W;
        for (int64_t line = batch.own.line0; line < batch.own.line1; ++line)
            for (int64_t x = batch.own.x0; x < batch.own.x1; ++x)
                memcpy(even.pixel(line, x), run.states[0] + batch.rows_at(line, x)(0) * H, size_t(H) * 4);
        for (int64_t t = 0; t < run.steps; ++t) {
            const PaddedImage &hidden_in = t % 2 ? odd : even, &next = t % 2 ? even : odd;
            const float* gx = run.gx + t * pixels * 4 * H;
            float* before = run.states[1] + t * pixels * H;  // a restarted row's c is written here too, for the backward pass
            float *h = run.states[0] + (t + 1) * pixels * H, *c = run.states[1] + (t + 1) * pixels * H;
            float* saved = run.saved ? run.saved + t * pixels * 5 * H : gates;
            const int64_t act = run.saved ? 5 * H : 3 * H;
            const Range current = batch.at(t);
            batch.for_each_restart(t, current, [&](int64_t row, int64_t line, int64_t x) {
                memcpy(hidden_in.pixel(line, x), run.reset_state[0] + row * H, size_t(H) * 4);
                memcpy(before + row * H, run.reset_state[1] + row * H, size_t(H) * 4);
            });
            batch.clear(h, H, current);
            team.wait();
            if (run.circular) hidden_in.wrap(current.line0, current.line1);
            map.apply(hidden_in, current, team.index, [&](int64_t v, int64_t line, int64_t x, int rows, const float* sums, int64_t step) {
                        const int64_t gate = v / per_gate, column = v % per_gate * W;
                        const RowIndex row = batch.rows_at(line, x);
                        const int n = int(H - column < W ? H - column : W);
                        const float* in = gx + gate * H + column;
                        if (gate < 3) {
                            for (int i = 0; i < rows; ++i) {
                                const V sum = load(sums + i * step) + load(in + row(i) * 4 * H, n);
                                store(saved + row(i) * act + gate * H + column, gate == 2 ? tanh(sum) : sigmoid(sum), n);
                            }
                            return;
                        }
                        float* state = next.pixel(line, x) + column;
                        for (int i = 0; i < rows; ++i) {
                            const int64_t at = row(i) * H + column;
                            float* out = saved + row(i) * act + column;
                            const V o = sigmoid(load(sums + i * step) + load(in + row(i) * 4 * H, n));
                            const V new_c = load(out + H, n) * load(before + at, n) + load(out, n) * load(out + 2 * H, n);
                            const V tanh_c = tanh(new_c);
                            store(c + at, new_c, n);
                            store(h + at, o * tanh_c, n);
                            store(state + i * next.stride, o * tanh_c, n);
                            if (run.saved) store(out + 3 * H, o, n), store(out + 4 * H, tanh_c, n);
                        }
                    });
        }
    }
};

struct Backward {
    Workspace workspace;
    PaddedImage d;
    MapProduct map;

    explicit Backward(const RecurrentRun& run) : d(run, 4 * run.hidden, true, workspace) {
        map.fill(run, run.weights[0], 1, run.hidden, 4 * run.hidden, true, d, workspace);
    }

    // d_states is carried from step to step.
    void backward(const RecurrentRun& run, const ThreadTeam& team) {
        BatchPartition batch(run, team);
        const int64_t H = run.hidden, pixels = run.pixels();
        for (int64_t t = run.steps - 1; t >= 0; --t) {
            const float *saved = run.saved + t * pixels * 5 * H, *before = run.states[1] + t * pixels * H, *dy = run.d_outputs + t * pixels * H;
            float* dgx = run.d_gx + t * pixels * 4 * H;
            const Range current = batch.at(t);
            batch.clear(dgx, 4 * H, current);
            team.wait();
            for (int64_t line = current.line0; line < current.line1; ++line)
                for (int64_t x = current.x0; x < current.x1; ++x) {
                    const int64_t row = batch.rows_at(line, x)(0);
                    float* all = d.pixel(line, x);
                    for (int64_t column = 0; column < H; column += W) {
                        const int n = int(H - column < W ? H - column : W);
                        const int64_t at = row * H + column;
                        const float* act = saved + row * 5 * H + column;
                        const V i = load(act, n), f = load(act + H, n), g = load(act + 2 * H, n), o = load(act + 3 * H, n);
                        const V tanh_c = load(act + 4 * H, n), dh = load(run.d_states[0] + at, n) + load(dy + at, n);
                        const V dc = load(run.d_states[1] + at, n) + dh * o * (1.0f - tanh_c * tanh_c);
                        const V found[4] = {dc * g * (i * (1.0f - i)), dc * load(before + at, n) * (f * (1.0f - f)),
                                            dc * i * (1.0f - g * g), dh * tanh_c * (o * (1.0f - o))};
                        for (int gate = 0; gate < 4; ++gate) {
                            store(dgx + row * 4 * H + gate * H + column, found[gate], n);
                            store(all + gate * H + column, found[gate], n);
                        }
                        store(run.d_states[1] + at, dc * f, n);
                    }
                }
            team.wait();
            if (run.circular) d.wrap(current.line0, current.line1);
            map.apply(d, current, team.index, [&](int64_t v, int64_t line, int64_t x, int rows, const float* sums, int64_t step) {
                        const int n = int(H - v * W < W ? H - v * W : W);
                        const RowIndex row = batch.rows_at(line, x);
                        for (int i = 0; i < rows; ++i) store(run.d_states[0] + row(i) * H + v * W, load(sums + i * step), n);
                    });
            batch.move_restart_gradient(t, current, run.d_states[0], run.d_reset_state[0]);
            batch.move_restart_gradient(t, current, run.d_states[1], run.d_reset_state[1]);
        }
    }
};

void forward(const RecurrentRun& run) { run_cell<Forward, &Forward::forward>(run); }
void backward(const RecurrentRun& run) { run_cell<Backward, &Backward::backward>(run); }
bool is_quick(const RecurrentRun& run) { return run.winograd(); }

}  // namespace

REGISTER_CELL(lstm, forward, backward, is_quick)
