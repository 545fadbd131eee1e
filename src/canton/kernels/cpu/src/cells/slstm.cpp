// The sLSTM: i, f, z, o from h; m' = max(a, b) for a = i and b = log sigmoid(f) + m, or a where n = 0; then i = exp(a - m'),
// f = exp(b - m'), c' = f c + i tanh(z), n' = f n + i, h' = sigmoid(o) c' / n'. The states are h, c, n, m.
// Saves i, f, tanh(z), sigmoid(o) and sigmoid(-f), the slope of log sigmoid.
#include "cell.h"

namespace {

constexpr int64_t STATES = 4, SAVED = 5;

// log(1 + y) for y in [0, 1]: Cephes logf of u = 1 + y, plus what u has lost of y.
INLINE V log_of_one_plus(V y) {
    const V u = 1.0f + y, half = u > all(1.41421356f) ? all(0.5f) : all(1.0f), x = u * half - 1.0f;
    V p = all(7.0376836292e-2f);
    p = p * x + -1.1514610310e-1f;
    p = p * x + 1.1676998740e-1f;
    p = p * x + -1.2420140846e-1f;
    p = p * x + 1.4249322787e-1f;
    p = p * x + -1.6668057665e-1f;
    p = p * x + 2.0000714765e-1f;
    p = p * x + -2.4999993993e-1f;
    p = p * x + 3.3333331174e-1f;
    const V square = x * x, log = p * square * x - 0.5f * square + x;
    return log + (u > all(1.41421356f) ? all(0.693147181f) : V{}) + (y - (u - 1.0f)) / u;
}

INLINE V log_sigmoid(V x) {
    const V size = x < all(0.0f) ? -x : x;
    return (x < all(0.0f) ? x : V{}) - log_of_one_plus(exponential(-size));
}

struct Forward {
    Workspace workspace;
    PaddedImage even, odd;  // the state before even and before odd steps: one is read while the other is written
    MapProduct map;
    float* gates;  // i, f, z of the current step, if nothing is saved

    explicit Forward(const RecurrentRun& run)
        : even(run, run.hidden, false, workspace), odd(run, run.hidden, false, workspace) {
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
            float *before[STATES], *after[STATES];
            for (int64_t k = 0; k < STATES; ++k)
                before[k] = run.states[k] + t * pixels * H, after[k] = run.states[k] + (t + 1) * pixels * H;
            float* saved = run.saved ? run.saved + t * pixels * SAVED * H : gates;
            const int64_t stride = (run.saved ? SAVED : 3) * H;
            const Range current = batch.at(t);
            batch.for_each_restart(t, current, [&](int64_t row, int64_t line, int64_t x) {
                memcpy(hidden_in.pixel(line, x), run.reset_state[0] + row * H, size_t(H) * 4);
                for (int64_t k = 1; k < STATES; ++k)
                    memcpy(before[k] + row * H, run.reset_state[k] + row * H, size_t(H) * 4);
            });
            batch.clear(after[0], H, current);
            team.wait();
            if (run.circular) hidden_in.wrap(current.line0, current.line1);
            map.apply(hidden_in, current, team.index, [&](int64_t v, int64_t line, int64_t x, int rows, const float* sums, int64_t step) {
                const int64_t gate = v / per_gate, column = v % per_gate * W;
                const RowIndex row = batch.rows_at(line, x);
                const int n = int(H - column < W ? H - column : W);
                const float* in = gx + gate * H + column;
                if (gate < 3) {
                    for (int r = 0; r < rows; ++r) {
                        const V sum = load(sums + r * step) + load(in + row(r) * 4 * H, n);
                        store(saved + row(r) * stride + gate * H + column, gate == 2 ? tanh(sum) : sum, n);
                    }
                    return;
                }
                float* state = next.pixel(line, x) + column;
                for (int r = 0; r < rows; ++r) {
                    const int64_t at = row(r) * H + column;
                    float* out = saved + row(r) * stride + column;
                    const V o = sigmoid(load(sums + r * step) + load(in + row(r) * 4 * H, n));
                    const V a = load(out, n), raw_f = load(out + H, n), z = load(out + 2 * H, n);
                    const V c = load(before[1] + at, n), norm = load(before[2] + at, n);
                    const V b = log_sigmoid(raw_f) + load(before[3] + at, n);
                    const V m = (norm == all(0.0f)) | (a > b) | (a != a) ? a : b;
                    const V i = exponential(a - m), f = exponential(b - m);
                    const V new_c = f * c + i * z, new_n = f * norm + i, h = o * new_c / new_n;
                    store(after[0] + at, h, n), store(after[1] + at, new_c, n);
                    store(after[2] + at, new_n, n), store(after[3] + at, m, n);
                    store(state + r * next.stride, h, n);
                    if (run.saved) {
                        store(out, i, n), store(out + H, f, n);
                        store(out + 3 * H, o, n), store(out + 4 * H, sigmoid(-raw_f), n);
                    }
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
            const float *saved = run.saved + t * pixels * SAVED * H, *dy = run.d_outputs + t * pixels * H;
            const float *cs = run.states[1] + t * pixels * H, *ns = run.states[2] + t * pixels * H;
            float* d_gx = run.d_gx + t * pixels * 4 * H;
            const Range current = batch.at(t);
            batch.clear(d_gx, 4 * H, current);
            team.wait();
            for (int64_t line = current.line0; line < current.line1; ++line)
                for (int64_t x = current.x0; x < current.x1; ++x) {
                    const int64_t row = batch.rows_at(line, x)(0);
                    float* all_gates = d.pixel(line, x);
                    for (int64_t column = 0; column < H; column += W) {
                        const int width = int(H - column < W ? H - column : W);
                        const int64_t at = row * H + column;
                        const float* act = saved + row * SAVED * H + column;
                        const V i = load(act, width), f = load(act + H, width), z = load(act + 2 * H, width);
                        const V o = load(act + 3 * H, width), log_slope = load(act + 4 * H, width);
                        const V c = load(cs + at, width), n = load(ns + at, width);
                        const V new_n = f * n + i;
                        const V ratio = (f * c + i * z) / new_n;
                        const V dh = load(run.d_states[0] + at, width) + load(dy + at, width);
                        const V dc = load(run.d_states[1] + at, width) + dh * o / new_n;
                        const V dn = load(run.d_states[2] + at, width) - dh * o * ratio / new_n;
                        V da = (dc * z + dn) * i, db = (dc * c + dn * n) * f;
                        const V dm = load(run.d_states[3] + at, width) - da - db;
                        const V both = (i == f) & (n != all(0.0f)) ? all(0.5f) : all(0.0f);
                        const V to_a = (n == all(0.0f)) | (i > f) ? all(1.0f) : both;
                        da += dm * to_a, db += dm * (1.0f - to_a);
                        const V found[4] = {da, db * log_slope, dc * i * (1.0f - z * z), dh * ratio * (o * (1.0f - o))};
                        for (int gate = 0; gate < 4; ++gate) {
                            store(d_gx + row * 4 * H + gate * H + column, found[gate], width);
                            store(all_gates + gate * H + column, found[gate], width);
                        }
                        store(run.d_states[1] + at, dc * f, width);
                        store(run.d_states[2] + at, dn * f, width);
                        store(run.d_states[3] + at, db, width);
                    }
                }
            team.wait();
            if (run.circular) d.wrap(current.line0, current.line1);
            map.apply(d, current, team.index, [&](int64_t v, int64_t line, int64_t x, int rows, const float* sums, int64_t step) {
                const int n = int(H - v * W < W ? H - v * W : W);
                const RowIndex row = batch.rows_at(line, x);
                for (int r = 0; r < rows; ++r) store(run.d_states[0] + row(r) * H + v * W, load(sums + r * step), n);
            });
            for (int64_t k = 0; k < STATES; ++k)
                batch.move_restart_gradient(t, current, run.d_states[k], run.d_reset_state[k]);
        }
    }
};

void forward(const RecurrentRun& run) { run_cell<Forward, &Forward::forward>(run); }
void backward(const RecurrentRun& run) { run_cell<Backward, &Backward::backward>(run); }
bool is_quick(const RecurrentRun& run) { return run.winograd(); }

}  // namespace

REGISTER_CELL(slstm, forward, backward, is_quick)
