// An image of the state with a border around it, channels last, so that a convolution is a plain product over it.
#pragma once
#include <stdlib.h>

#include "gemm_microkernel.h"
#include "abi.h"

namespace {

// One block of memory for a call: asked for piece by piece, freed at the end.
struct Memory {
    void* held[16];
    int count = 0;
    float* floats(int64_t n) {
        void* p = nullptr;
        if (posix_memalign(&p, 64, size_t(n > 0 ? n : 1) * 4 + 64)) abort();
        held[count++] = p;
        return static_cast<float*>(p);
    }
    ~Memory() {
        for (int i = 0; i < count; ++i) free(held[i]);
    }
};

constexpr int SIDE = 4;  // pixels a side of Winograd's tiles have (see winograd.h)

// `SIDE` where the tiles serve, else 0.
inline int tile_side(const Sequence& q) {
    const bool square = q.kernel[1] == q.kernel[2] && q.dilation[1] == 1 && q.dilation[2] == 1;
    if (!square || q.depth * q.kernel[0] != 1 || q.hidden < 8) return 0;
    return q.kernel[1] == 3 || q.kernel[1] == 5 ? SIDE : 0;
}

struct Field {
    float* data = nullptr;
    int64_t channels, stride;               // of a pixel; a dense row gets 16 floats more, lest rows share cache sets
    int64_t pitch, plane, image;            // floats from line to line, plane to plane, image to image
    int64_t depth, height, width, inside;   // inside: floats from an image's corner to its first true pixel
    int64_t before[3], after[3];

    // `flipped` swaps the border's sides: the gradient runs the kernel backwards.
    Field(const Sequence& q, int64_t channels_, bool flipped, Memory& memory, bool filled = true) : channels(channels_) {
        for (int i = 0; i < 3; ++i) {
            const int64_t total = q.dilation[i] * (q.kernel[i] - 1), half = total / 2;
            before[i] = flipped ? total - half : half;
            after[i] = total - before[i];
        }
        stride = q.dense() ? (channels + 15) / 16 * 16 + 16 : channels;
        depth = q.depth, height = q.height, width = q.width;
        const int64_t more = tile_side(q) ? tile_side(q) - 1 : 0;  // the last tiles may overhang
        pitch = (width + before[2] + after[2] + more) * stride;
        plane = (height + before[1] + after[1] + more) * pitch;
        image = (depth + before[0] + after[0]) * plane;
        inside = before[0] * plane + before[1] * pitch + before[2] * stride;
        if (!filled) return;  // its shape is all that is asked for
        data = memory.floats(q.images * image);
        memset(data, 0, size_t(q.images * image) * 4);
    }
    // The corner of the window around pixel 0 of a line (lines are counted over images and planes).
    float* window(int64_t line) const {
        const int64_t y = line % height, z = line / height % depth, b = line / height / depth;
        return data + b * image + z * plane + y * pitch;
    }
    float* pixel(int64_t line, int64_t x) const { return window(line) + inside + x * stride; }

    // Copies the far sides into the border of the images that hold these lines.
    void wrap(int64_t line0, int64_t line1) const {
        const int64_t per = height * depth;
        for (int64_t b = line0 / per; b < (line1 + per - 1) / per; ++b) {
            float* corner = data + b * image;
            for (int64_t z = 0; z < depth; ++z)
                for (int64_t y = 0; y < height; ++y) {
                    float* line = corner + (z + before[0]) * plane + (y + before[1]) * pitch;
                    around(line, before[2], width, after[2], stride);
                }
            for (int64_t z = 0; z < depth; ++z)
                around(corner + (z + before[0]) * plane, before[1], height, after[1], pitch);
            around(corner, before[0], depth, after[0], plane);
        }
    }

private:
    static void around(float* p, int64_t ahead, int64_t n, int64_t behind, int64_t step) {
        for (int64_t i = ahead - 1; i >= 0; --i) memcpy(p + i * step, p + (i + n) * step, size_t(step) * 4);
        for (int64_t i = 0; i < behind; ++i)
            memcpy(p + (ahead + n + i) * step, p + (ahead + i) * step, size_t(step) * 4);
    }
};

// Which pixels are a thread's own. Whole images where there are enough, else lines: then threads meet at barriers.
Span share(const Sequence& q, const Team& team) {
    const int64_t lines = q.images * q.depth * q.height;
    if (q.dense()) return {0, lines, q.width * team.index / team.count, q.width * (team.index + 1) / team.count};
    const int64_t side = tile_side(q), per_image = side ? (q.height + side - 1) / side : q.depth * q.height;
    const int64_t n = team.barrier ? q.images * per_image : q.images;
    auto first = [&](int64_t part) {
        const int64_t unit = n * part / team.count;
        if (!team.barrier) return unit * q.depth * q.height;
        return side ? unit / per_image * q.height + unit % per_image * side : unit;
    };
    return {first(team.index), first(team.index + 1), 0, q.width};
}

// The two orders in which a weight (out, in, *kernel) is read: forwards, and transposed for the gradient.
struct Pack {
    Packed packed;
    int64_t offset[343];

    // `gates` groups of `each` columns; `channels` numbers a pixel; `field` holds the rows it will be applied to.
    void fill(const Sequence& q, const float* weight, int64_t gates, int64_t each, int64_t channels, bool transposed,
              const Field& field, Memory& memory) {
        const int64_t taps = q.kernel[0] * q.kernel[1] * q.kernel[2];
        const bool whole_lines = q.dilation[2] == 1;
        const int64_t across = whole_lines ? 1 : q.kernel[2];
        packed.segments = 0;
        for (int64_t z = 0; z < q.kernel[0]; ++z)
            for (int64_t y = 0; y < q.kernel[1]; ++y)
                for (int64_t x = 0; x < across; ++x)
                    offset[packed.segments++] = z * q.dilation[0] * field.plane + y * q.dilation[1] * field.pitch +
                                                x * q.dilation[2] * field.stride;
        packed.offset = offset;
        packed.length = whole_lines ? q.kernel[2] * channels : channels;
        const int64_t per_gate = (each + W - 1) / W, depth = packed.depth();
        packed.vectors = gates * per_gate;
        float* data = memory.floats(packed.vectors * depth * W);
        packed.data = data;
        const int64_t by_column = transposed ? taps : channels * taps;
        const int64_t by_channel = transposed ? each * gates * taps : taps;
        for (int64_t v = 0; v < packed.vectors; ++v) {
            const bool alone = v + 1 == packed.vectors && v % 2 == 0;
            const int64_t step = alone ? W : 2 * W, first = v % per_gate * W;
            float* to = data + v / 2 * depth * 2 * W + v % 2 * W;
            const float* from = weight + (v / per_gate * each + first) * by_column;
            const int64_t n = each - first < W ? each - first : W;
            for (int64_t tap = 0; tap < taps; ++tap) {
                const float* source = from + (transposed ? taps - 1 - tap : tap);
                for (int64_t c = 0; c < channels; ++c, to += step)
                    for (int64_t i = 0; i < W; ++i) to[i] = i < n ? source[i * by_column + c * by_channel] : 0.0f;
            }
        }
    }
};

}  // namespace
