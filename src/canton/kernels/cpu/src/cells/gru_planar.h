// The article's GRU where a state of few channels covers many pixels: vectors run along a line of pixels, for along the
// channels most of each would be empty. Forward only: what no gradient is wanted of.
#pragma once
#include "batch_partition.h"

namespace {

class ThinGRUBefore {
    static constexpr int64_t GROUP = 4, STRETCH = 2 * W;  // channels, and pixels of a line, that are summed at a time

    // Planes of an image, one a channel, with zeros around and behind each line up to a whole stretch.
    struct Planes {
        float* data;
        int64_t height, top, left, pitch, plane, channels;

        Planes(const Sequence& q, Memory& memory) : height(q.height), channels(q.hidden) {
            const int64_t tall = q.dilation[1] * (q.kernel[1] - 1), wide = q.dilation[2] * (q.kernel[2] - 1);
            top = tall / 2, left = wide / 2;
            pitch = (q.width + STRETCH - 1) / STRETCH * STRETCH + wide;
            plane = (height + tall) * pitch;
            data = memory.floats(q.images * channels * plane);
            memset(data, 0, size_t(q.images * channels * plane) * 4);
        }
        // Of the window around pixel (line, x), the first number; lines are counted over images.
        INLINE float* window(int64_t channel, int64_t line, int64_t x) const {
            return data + (line / height * channels + channel) * plane + line % height * pitch + x;
        }
        INLINE float* pixel(int64_t channel, int64_t line, int64_t x) const {
            return window(channel, line, x) + top * pitch + left;
        }
    };

    Memory memory;
    const int64_t H, taps;
    Planes h, rh;
    const int64_t wide;  // floats of a line of z and of gx
    float *z, *gates, *candidate;

    // (out, in, *kernel) as (groups of out, in, *kernel, GROUP), zeros where a group is not full.
    float* packed(const float* weight, int64_t out) {
        const int64_t depth = H * taps, groups = (out + GROUP - 1) / GROUP;
        float* data = memory.floats(groups * depth * GROUP);
        for (int64_t o = 0; o < groups * GROUP; ++o)
            for (int64_t i = 0; i < depth; ++i)
                data[(o / GROUP * depth + i) * GROUP + o % GROUP] = o < out ? weight[o * depth + i] : 0.0f;
        return data;
    }

    // Calls visit(channel, x, sums, n) for a line's convolution, W pixels at a time, of which n lie within it.
    template <class Visit>
    INLINE void convolve(const Sequence& q, const Planes& from, const float* weight, int64_t out, int64_t line, Visit visit) const {
        for (int64_t x = 0; x < q.width; x += STRETCH) {
            const float* w = weight;
            for (int64_t first = 0; first < out; first += GROUP) {
                V a[GROUP] = {}, b[GROUP] = {};
                for (int64_t c = 0; c < H; ++c)
                    for (int64_t j = 0; j < q.kernel[1]; ++j) {
                        const float* row = from.window(c, line, x) + j * q.dilation[1] * from.pitch;
                        for (int64_t i = 0; i < q.kernel[2]; ++i, row += q.dilation[2], w += GROUP) {
                            const V near = load(row), far = load(row + W);
                            for (int64_t o = 0; o < GROUP; ++o) a[o] += w[o] * near, b[o] += w[o] * far;
                        }
                    }
                const int64_t last = out - first < GROUP ? out - first : GROUP, left = q.width - x;
                for (int64_t o = 0; o < last; ++o) {
                    visit(first + o, x, a[o], int(left < W ? left : W));
                    if (left > W) visit(first + o, x + W, b[o], int(left < 2 * W ? left - W : W));
                }
            }
        }
    }

    // Channels `first` to `last` of a line of gx, each along the line.
    INLINE void along(const Sequence& q, const float* gx, int64_t first, int64_t last, float* to) const {
        for (int64_t x = 0; x < q.width; ++x)
            for (int64_t c = first; c < last; ++c) to[c * wide + x] = gx[x * 3 * H + c];
    }

   public:
    // layout.py has the same rule.
    static bool serves(const Sequence& q) {
        const bool plane = !q.dense() && q.depth * q.kernel[0] == 1 && !q.circular && q.width >= 8;
        return plane && 2 * q.hidden <= W && !tile_side(q) && !q.acts && !q.order;
    }

    explicit ThinGRUBefore(const Sequence& q)
        : H(q.hidden), taps(q.kernel[1] * q.kernel[2]), h(q, memory), rh(q, memory),
          wide((q.width + STRETCH - 1) / STRETCH * STRETCH) {
        z = memory.floats(q.images * q.height * H * wide);
        gates = packed(q.first, 2 * H);
        candidate = packed(q.second, H);
    }

    void forward(const Sequence& q, const Team& team) {
        Rows batch(q, team);
        const Span own = batch.own;
        const int64_t pixels = q.pixels();
        Memory mine;
        float* in = mine.floats(3 * H * wide);
        const auto begin = [&](const float* state, int64_t line, int64_t x) {
            for (int64_t c = 0; c < H; ++c) *h.pixel(c, line, x) = state[c];
        };
        for (int64_t line = own.line0; line < own.line1; ++line)
            for (int64_t x = 0; x < q.width; ++x) begin(q.hs + (line * q.width + x) * H, line, x);
        for (int64_t t = 0; t < q.steps; ++t) {
            const float* gx = q.gx + t * pixels * 3 * H;
            float* after = q.hs + (t + 1) * pixels * H;
            batch.restarts(t, own, [&](int64_t row, int64_t line, int64_t x) { begin(q.fresh + row * H, line, x); });
            team.wait();
            for (int64_t line = own.line0; line < own.line1; ++line) {
                along(q, gx + line * q.width * 3 * H, 0, 2 * H, in);
                convolve(q, h, gates, 2 * H, line, [&](int64_t gate, int64_t x, V sums, int n) {
                    const V opening = sigmoid(sums + load(in + gate * wide + x));
                    if (gate < H) return store(z + (line * H + gate) * wide + x, opening);
                    store(rh.pixel(gate - H, line, x), opening * load(h.pixel(gate - H, line, x)), n);
                });
            }
            team.wait();
            for (int64_t line = own.line0; line < own.line1; ++line) {
                along(q, gx + line * q.width * 3 * H, 2 * H, 3 * H, in);
                convolve(q, rh, candidate, H, line, [&](int64_t c, int64_t x, V sums, int n) {
                    const V took = load(z + (line * H + c) * wide + x), past = load(h.pixel(c, line, x));
                    const V found = tanh(sums + load(in + (2 * H + c) * wide + x));
                    store(h.pixel(c, line, x), (1.0f - took) * past + took * found, n);
                });
                for (int64_t x = 0; x < q.width; ++x)
                    for (int64_t c = 0; c < H; ++c) after[(line * q.width + x) * H + c] = *h.pixel(c, line, x);
            }
        }
    }
};

}  // namespace
