// The GRU for states of few channels over many pixels, without gradients: vectors run along a line of pixels, because along
// the channels most of each would be empty.
#pragma once
#include "batch_partition.h"

namespace {

class PlanarGRU {
    static constexpr int64_t GROUP = 4, CHUNK = 2 * W;  // channels, and pixels of a line, summed at a time

    // Planes of an image, one a channel, with zeros around and behind each line up to a whole chunk.
    struct Planes {
        float* data;
        int64_t height, top, left, pitch, plane, channels;

        Planes(const RecurrentRun& run, Workspace& workspace) : height(run.height), channels(run.hidden) {
            const int64_t tall = run.dilation[1] * (run.kernel[1] - 1), wide = run.dilation[2] * (run.kernel[2] - 1);
            top = tall / 2, left = wide / 2;
            pitch = (run.width + CHUNK - 1) / CHUNK * CHUNK + wide;
            plane = (height + tall) * pitch;
            data = workspace.floats(run.images * channels * plane);
            memset(data, 0, size_t(run.images * channels * plane) * 4);
        }
        // The first number of the window around pixel (line, x); lines are counted over images.
        INLINE float* window(int64_t channel, int64_t line, int64_t x) const {
            return data + (line / height * channels + channel) * plane + line % height * pitch + x;
        }
        INLINE float* pixel(int64_t channel, int64_t line, int64_t x) const {
            return window(channel, line, x) + top * pitch + left;
        }
    };

    Workspace workspace;
    const int64_t H, taps;
    Planes h, rh;
    const int64_t wide;  // floats of a line of z and of gx
    float *z, *gates, *candidate;

    // (out, in, *kernel) as (groups of out, in, *kernel, GROUP), zeros where a group is not full.
    float* packed(const float* weight, int64_t out) {
        const int64_t depth = H * taps, groups = (out + GROUP - 1) / GROUP;
        float* data = workspace.floats(groups * depth * GROUP);
        for (int64_t o = 0; o < groups * GROUP; ++o)
            for (int64_t i = 0; i < depth; ++i)
                data[(o / GROUP * depth + i) * GROUP + o % GROUP] = o < out ? weight[o * depth + i] : 0.0f;
        return data;
    }

    // Call visit(channel, x, sums, n) for a line's convolution, W pixels at a time, of which n lie within it.
    template <class Visit>
    INLINE void convolve(const RecurrentRun& run, const Planes& from, const float* weight, int64_t out, int64_t line, Visit visit) const {
        for (int64_t x = 0; x < run.width; x += CHUNK) {
            const float* w = weight;
            for (int64_t first = 0; first < out; first += GROUP) {
                V a[GROUP] = {}, b[GROUP] = {};
                for (int64_t c = 0; c < H; ++c)
                    for (int64_t j = 0; j < run.kernel[1]; ++j) {
                        const float* row = from.window(c, line, x) + j * run.dilation[1] * from.pitch;
                        for (int64_t i = 0; i < run.kernel[2]; ++i, row += run.dilation[2], w += GROUP) {
                            const V near = load(row), far = load(row + W);
                            for (int64_t o = 0; o < GROUP; ++o) a[o] += w[o] * near, b[o] += w[o] * far;
                        }
                    }
                const int64_t last = out - first < GROUP ? out - first : GROUP, left = run.width - x;
                for (int64_t o = 0; o < last; ++o) {
                    visit(first + o, x, a[o], int(left < W ? left : W));
                    if (left > W) visit(first + o, x + W, b[o], int(left < 2 * W ? left - W : W));
                }
            }
        }
    }

    // Channels `first` to `last` of a line of gx, each along the line.
    INLINE void along(const RecurrentRun& run, const float* gx, int64_t first, int64_t last, float* to) const {
        for (int64_t x = 0; x < run.width; ++x)
            for (int64_t c = first; c < last; ++c) to[c * wide + x] = gx[x * 3 * H + c];
    }

   public:
    static bool supports(const RecurrentRun& run) {
        const bool plane = !run.dense() && run.depth * run.kernel[0] == 1 && !run.circular && run.width >= 8;
        return plane && 2 * run.hidden <= W && !run.winograd() && !run.saved && !run.order;
    }

    explicit PlanarGRU(const RecurrentRun& run)
        : H(run.hidden), taps(run.kernel[1] * run.kernel[2]), h(run, workspace), rh(run, workspace),
          wide((run.width + CHUNK - 1) / CHUNK * CHUNK) {
        z = workspace.floats(run.images * run.height * H * wide);
        gates = packed(run.weights[0], 2 * H);
        candidate = packed(run.weights[1], H);
    }

    void forward(const RecurrentRun& run, const ThreadTeam& team) {
        BatchPartition batch(run, team);
        const Range own = batch.own;
        const int64_t pixels = run.pixels();
        Workspace own_space;
        float* in = own_space.floats(3 * H * wide);
        const auto begin = [&](const float* state, int64_t line, int64_t x) {
            for (int64_t c = 0; c < H; ++c) *h.pixel(c, line, x) = state[c];
        };
        for (int64_t line = own.line0; line < own.line1; ++line)
            for (int64_t x = 0; x < run.width; ++x) begin(run.states[0] + (line * run.width + x) * H, line, x);
        for (int64_t t = 0; t < run.steps; ++t) {
            const float* gx = run.gx + t * pixels * 3 * H;
            float* after = run.states[0] + (t + 1) * pixels * H;
            batch.for_each_restart(t, own, [&](int64_t row, int64_t line, int64_t x) { begin(run.reset_state[0] + row * H, line, x); });
            team.wait();
            for (int64_t line = own.line0; line < own.line1; ++line) {
                along(run, gx + line * run.width * 3 * H, 0, 2 * H, in);
                convolve(run, h, gates, 2 * H, line, [&](int64_t gate, int64_t x, V sums, int n) {
                    const V opening = sigmoid(sums + load(in + gate * wide + x));
                    if (gate < H) return store(z + (line * H + gate) * wide + x, opening);
                    store(rh.pixel(gate - H, line, x), opening * load(h.pixel(gate - H, line, x)), n);
                });
            }
            team.wait();
            for (int64_t line = own.line0; line < own.line1; ++line) {
                along(run, gx + line * run.width * 3 * H, 2 * H, 3 * H, in);
                convolve(run, rh, candidate, H, line, [&](int64_t c, int64_t x, V sums, int n) {
                    const V z_now = load(z + (line * H + c) * wide + x), past = load(h.pixel(c, line, x));
                    const V c_now = tanh(sums + load(in + (2 * H + c) * wide + x));
                    store(h.pixel(c, line, x), (1.0f - z_now) * past + z_now * c_now, n);
                });
                for (int64_t x = 0; x < run.width; ++x)
                    for (int64_t c = 0; c < H; ++c) after[(line * run.width + x) * H + c] = *h.pixel(c, line, x);
            }
        }
    }
};

}  // namespace
