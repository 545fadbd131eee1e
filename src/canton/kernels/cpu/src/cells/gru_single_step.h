// One step of a dense GRU for a few rows. The weights are read once, unpacked. Packing them would take longer
// than the step.
#pragma once
#include "padded_image.h"

namespace {

struct SingleStepGRU {
    static constexpr int64_t MAX_ROWS = 4;

    // Whether a run has no gradients and is so short that packing would take longer.
    static bool supports(const RecurrentRun& run) {
        if (run.saved || run.order || run.reset) return false;
        return run.dense() && run.steps == 1 && run.images * run.depth * run.height == 1 && run.width <= MAX_ROWS;
    }

    // sums[row * outputs + i] = weight[i] . x[row]; x's rows are `depth` floats, contiguous.
    template <int R>
    static void dots(const float* weight, int64_t outputs, int64_t depth, const float* x, float* sums) {
        constexpr int64_t SIDE = R == 1 ? 4 : 2;  // outputs at once, so that enough sums are under way
        for (int64_t i = 0; i < outputs; i += SIDE) {
            const int64_t side = outputs - i < SIDE ? outputs - i : SIDE;
            V sum[SIDE][R] = {};
            for (int64_t k = 0; k < depth; k += W) {
                const int n = int(depth - k < W ? depth - k : W);
                V input[R];
                for (int r = 0; r < R; ++r) input[r] = load(x + r * depth + k, n);
                for (int64_t s = 0; s < SIDE; ++s) {
                    const V w = load(weight + (i + (s < side ? s : 0)) * depth + k, n);
                    for (int r = 0; r < R; ++r) sum[s][r] += w * input[r];
                }
            }
            for (int64_t s = 0; s < side; ++s)
                for (int r = 0; r < R; ++r) {
                    float total = 0;
                    for (int lane = 0; lane < W; ++lane) total += sum[s][r][lane];
                    sums[r * outputs + i + s] = total;
                }
        }
    }

    static void dots(int64_t rows, const float* weight, int64_t outputs, int64_t depth, const float* x, float* sums) {
        switch (rows) {
            case 1: return dots<1>(weight, outputs, depth, x, sums);
            case 2: return dots<2>(weight, outputs, depth, x, sums);
            case 3: return dots<3>(weight, outputs, depth, x, sums);
            default: dots<4>(weight, outputs, depth, x, sums);
        }
    }

    static void execute(const RecurrentRun& run) {
        Workspace workspace;
        const int64_t H = run.hidden, rows = run.width;
        float *zr = workspace.floats(rows * 2 * H), *c = workspace.floats(rows * H), *rh = workspace.floats(rows * H);
        const float* before = run.states[0];
        float* after = run.states[0] + rows * H;
        dots(rows, run.weights[0], 2 * H, H, before, zr);
        for (int64_t row = 0; row < rows; ++row) {
            const float* gx = run.gx + row * 3 * H;
            for (int64_t i = 0; i < H; i += W) {
                const int n = int(H - i < W ? H - i : W);
                float* z = zr + row * 2 * H + i;
                store(z, sigmoid(load(z, n) + load(gx + i, n)), n);
                V r = sigmoid(load(z + H, n) + load(gx + H + i, n));
                store(rh + row * H + i, r * load(before + row * H + i, n), n);
            }
        }
        dots(rows, run.weights[1], H, H, rh, c);
        for (int64_t row = 0; row < rows; ++row)
            for (int64_t i = 0; i < H; i += W) {
                const int n = int(H - i < W ? H - i : W);
                V z = load(zr + row * 2 * H + i, n);
                V candidate = tanh(load(c + row * H + i, n) + load(run.gx + row * 3 * H + 2 * H + i, n));
                store(after + row * H + i, (1.0f - z) * load(before + row * H + i, n) + z * candidate, n);
            }
    }
};

}  // namespace
