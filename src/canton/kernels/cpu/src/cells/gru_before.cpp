// The GRU with the reset before the map: z and r from h, the candidate from r * h, h' = (1 - z) h + z c. Saves z, r, c.
#include "cell.h"
#include "gru_planar.h"
#include "gru_single_step.h"

namespace {

struct Forward {
    Workspace workspace;
    PaddedImage h, rh;
    MapProduct gates, candidate;
    float* z;

    explicit Forward(const RecurrentRun& run) : h(run, run.hidden, false, workspace), rh(run, run.hidden, false, workspace) {
        gates.fill(run, run.weights[0], 2, run.hidden, run.hidden, false, h, workspace);
        candidate.fill(run, run.weights[1], 1, run.hidden, run.hidden, false, rh, workspace);
        z = run.saved ? nullptr : workspace.floats(run.pixels() * run.hidden);
    }

    void forward(const RecurrentRun& run, const ThreadTeam& team) {
        BatchPartition batch(run, team);
        const int64_t H = run.hidden, pixels = run.pixels(), per_gate = (H + W - 1) / W;
        for (int64_t line = batch.own.line0; line < batch.own.line1; ++line)
            for (int64_t x = batch.own.x0; x < batch.own.x1; ++x)
                memcpy(h.pixel(line, x), run.states[0] + batch.rows_at(line, x)(0) * H, size_t(H) * 4);
        for (int64_t t = 0; t < run.steps; ++t) {
            const float* gx = run.gx + t * pixels * 3 * H;
            float* after = run.states[0] + (t + 1) * pixels * H;
            float* saved = run.saved ? run.saved + t * pixels * 3 * H : nullptr;
            float* z_now = saved ? saved : z;
            const int64_t z_step = saved ? 3 * H : H;
            const Range current = batch.at(t);
            batch.for_each_restart(t, current, [&](int64_t row, int64_t line, int64_t x) {
                memcpy(h.pixel(line, x), run.reset_state[0] + row * H, size_t(H) * 4);
            });
            batch.clear(after, H, current);
            team.wait();
            if (run.circular) h.wrap(current.line0, current.line1);
            gates.apply(h, current, team.index, [&](int64_t v, int64_t line, int64_t x, int rows, const float* sums, int64_t step) {
                        const int64_t gate = v / per_gate, column = v % per_gate * W;
                        const RowIndex row = batch.rows_at(line, x);
                        const int n = int(H - column < W ? H - column : W);
                        const float* in = gx + gate * H + column;
                        if (gate == 0) {
                            for (int i = 0; i < rows; ++i) {
                                V z = sigmoid(load(sums + i * step) + load(in + row(i) * 3 * H, n));
                                store(z_now + row(i) * z_step + column, z, n);
                            }
                            return;
                        }
                        const float* past = h.pixel(line, x) + column;
                        float* reset_h = rh.pixel(line, x) + column;
                        for (int i = 0; i < rows; ++i) {
                            V r = sigmoid(load(sums + i * step) + load(in + row(i) * 3 * H, n));
                            store(reset_h + i * rh.stride, r * load(past + i * h.stride, n), n);
                            if (saved) store(saved + row(i) * 3 * H + H + column, r, n);
                        }
                    });
            team.wait();
            if (run.circular) rh.wrap(current.line0, current.line1);
            candidate.apply(rh, current, team.index, [&](int64_t v, int64_t line, int64_t x, int rows, const float* sums, int64_t step) {
                        const int64_t column = v * W;
                        const RowIndex row = batch.rows_at(line, x);
                        const int n = int(H - column < W ? H - column : W);
                        const float* in = gx + 2 * H + column;
                        float* state = h.pixel(line, x) + column;
                        for (int i = 0; i < rows; ++i) {
                            V c = tanh(load(sums + i * step) + load(in + row(i) * 3 * H, n));
                            V z_gate = load(z_now + row(i) * z_step + column, n);
                            V next = (1.0f - z_gate) * load(state + i * h.stride, n) + z_gate * c;
                            store(after + row(i) * H + column, next, n);
                            store(state + i * h.stride, next, n);
                            if (saved) store(saved + row(i) * 3 * H + 2 * H + column, c, n);
                        }
                    });
        }
    }
};

struct Backward {
    Workspace workspace;
    PaddedImage dgates, dcandidate;
    MapProduct gates, candidate;

    explicit Backward(const RecurrentRun& run)
        : dgates(run, 2 * run.hidden, true, workspace), dcandidate(run, run.hidden, true, workspace) {
        gates.fill(run, run.weights[0], 1, run.hidden, 2 * run.hidden, true, dgates, workspace);
        candidate.fill(run, run.weights[1], 1, run.hidden, run.hidden, true, dcandidate, workspace);
    }

    // d_states is carried from step to step. In states, a restarted row holds the state it restarted from.
    void backward(const RecurrentRun& run, const ThreadTeam& team) {
        BatchPartition batch(run, team);
        const int64_t H = run.hidden, pixels = run.pixels();
        for (int64_t t = run.steps - 1; t >= 0; --t) {
            const float* saved = run.saved + t * pixels * 3 * H;
            const float* before = run.states[0] + t * pixels * H;
            const float* dy = run.d_outputs + t * pixels * H;
            float* dgx = run.d_gx + t * pixels * 3 * H;
            float* inputs = run.product_inputs[1] + t * pixels * H;
            const Range current = batch.at(t);
            batch.clear(dgx, 3 * H, current);
            batch.clear(inputs, H, current);
            team.wait();
            for (int64_t line = current.line0; line < current.line1; ++line)
                for (int64_t x = current.x0; x < current.x1; ++x) {
                    const int64_t row = batch.rows_at(line, x)(0);
                    float *dz = dgates.pixel(line, x), *dc = dcandidate.pixel(line, x);
                    for (int64_t column = 0; column < H; column += W) {
                        const int n = int(H - column < W ? H - column : W);
                        const float* act = saved + row * 3 * H + column;
                        V z = load(act, n), r = load(act + H, n), c = load(act + 2 * H, n);
                        V h = load(before + row * H + column, n);
                        V dh = load(run.d_states[0] + row * H + column, n) + load(dy + row * H + column, n);
                        V gz = dh * (c - h) * (z * (1.0f - z)), gc = dh * z * (1.0f - c * c);
                        store(dgx + row * 3 * H + column, gz, n);
                        store(dgx + row * 3 * H + 2 * H + column, gc, n);
                        store(dz + column, gz, n);
                        store(dc + column, gc, n);
                        store(inputs + row * H + column, r * h, n);
                        store(run.d_states[0] + row * H + column, dh * (1.0f - z), n);
                    }
                }
            team.wait();
            if (run.circular) dcandidate.wrap(current.line0, current.line1);
            candidate.apply(dcandidate, current, team.index, [&](int64_t v, int64_t line, int64_t x, int rows, const float* sums, int64_t step) {
                        const int64_t column = v * W;
                        const RowIndex at = batch.rows_at(line, x);
                        const int n = int(H - column < W ? H - column : W);
                        float* out = dgates.pixel(line, x) + H + column;
                        for (int i = 0; i < rows; ++i) {
                            const int64_t row = at(i);
                            V r = load(saved + row * 3 * H + H + column, n), h = load(before + row * H + column, n);
                            V drh = load(sums + i * step);
                            V gr = drh * h * (r * (1.0f - r));
                            float* dh = run.d_states[0] + row * H + column;
                            store(dgx + row * 3 * H + H + column, gr, n);
                            store(out + i * dgates.stride, gr, n);
                            store(dh, load(dh, n) + drh * r, n);
                        }
                    });
            team.wait();
            if (run.circular) dgates.wrap(current.line0, current.line1);
            gates.apply(dgates, current, team.index, [&](int64_t v, int64_t line, int64_t x, int rows, const float* sums, int64_t step) {
                        const int64_t column = v * W;
                        const RowIndex row = batch.rows_at(line, x);
                        const int n = int(H - column < W ? H - column : W);
                        for (int i = 0; i < rows; ++i) {
                            float* dh = run.d_states[0] + row(i) * H + column;
                            store(dh, load(dh, n) + load(sums + i * step), n);
                        }
                    });
            batch.move_restart_gradient(t, current, run.d_states[0], run.d_reset_state[0]);
        }
    }
};

void forward(const RecurrentRun& run) {
    if (SingleStepGRU::supports(run)) return SingleStepGRU::execute(run);
    if (PlanarGRU::supports(run)) return run_cell<PlanarGRU, &PlanarGRU::forward>(run);
    run_cell<Forward, &Forward::forward>(run);
}
void backward(const RecurrentRun& run) { run_cell<Backward, &Backward::backward>(run); }
bool is_quick(const RecurrentRun& run) {
    return run.winograd() || SingleStepGRU::supports(run) || PlanarGRU::supports(run);
}

}  // namespace

REGISTER_CELL(gru_before, forward, backward, is_quick)
