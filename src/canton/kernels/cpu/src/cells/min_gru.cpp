// The minGRU: its gates do not read the state, so a step is one pass over memory.
// gx is (steps, width, 2 * hidden) in torch's own order of axes; `hidden` counts channels times pixels.
#include "cell.h"

namespace {

struct MinGRU {
    explicit MinGRU(const RecurrentRun&) {}

    // c = a + 1/2 where a >= 0, else sigmoid(a); NaN stays NaN.
    static INLINE V positive(V a) {
        const V low = sigmoid(a);
        return a >= all(0.0f) ? a + 0.5f : low;
    }

    // Call visit(row, column, n) for the thread's numbers of a step, n <= W at a time.
    template <class Visit>
    static INLINE void each(const RecurrentRun& run, const ThreadTeam& team, Visit visit) {
        const int64_t H = run.hidden, end = run.width * (team.index + 1) / team.count;
        for (int64_t row = run.width * team.index / team.count; row < end; ++row)
            for (int64_t column = 0; column < H; column += W)
                visit(row, column, int(H - column < W ? H - column : W));
    }

    void forward(const RecurrentRun& run, const ThreadTeam& team) {
        const int64_t H = run.hidden, rows = run.width;
        for (int64_t t = 0; t < run.steps; ++t) {
            const float *gx = run.gx + t * rows * 2 * H, *before = run.states[0] + t * rows * H;
            float* after = run.states[0] + (t + 1) * rows * H;
            each(run, team, [&](int64_t row, int64_t column, int n) {
                const float* in = gx + row * 2 * H + column;
                const V z = sigmoid(load(in, n)), c = positive(load(in + H, n)), h = load(before + row * H + column, n);
                store(after + row * H + column, (1.0f - z) * h + z * c, n);
            });
        }
    }

    // d_states is carried from step to step.
    void backward(const RecurrentRun& run, const ThreadTeam& team) {
        const int64_t H = run.hidden, rows = run.width;
        for (int64_t t = run.steps - 1; t >= 0; --t) {
            const float *gx = run.gx + t * rows * 2 * H, *before = run.states[0] + t * rows * H, *dy = run.d_outputs + t * rows * H;
            float* dgx = run.d_gx + t * rows * 2 * H;
            each(run, team, [&](int64_t row, int64_t column, int n) {
                const int64_t in = row * 2 * H + column, at = row * H + column;
                const V a = load(gx + in + H, n), z = sigmoid(load(gx + in, n)), c = positive(a);
                const V g = load(run.d_states[0] + at, n) + load(dy + at, n);
                const V slope = a >= all(0.0f) ? all(1.0f) : c * (1.0f - c);
                store(dgx + in, g * (c - load(before + at, n)) * (z * (1.0f - z)), n);
                store(dgx + in + H, g * z * slope, n);
                store(run.d_states[0] + at, g * (1.0f - z), n);
            });
        }
    }
};

void forward(const RecurrentRun& run) { run_cell<MinGRU, &MinGRU::forward>(run); }
void backward(const RecurrentRun& run) { run_cell<MinGRU, &MinGRU::backward>(run); }
bool is_quick(const RecurrentRun&) { return true; }

}  // namespace

REGISTER_CELL(min_gru, forward, backward, is_quick)
