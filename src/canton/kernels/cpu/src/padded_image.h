// An image of the state with a border, channels last, so that a convolution is a plain product over it.
#pragma once
#include <stdlib.h>

#include "gemm_microkernel.h"
#include "abi.h"

namespace {

// Memory for one call, freed at its end.
struct Workspace {
    void* held[16];
    int count = 0;
    float* floats(int64_t n) {
        void* p = nullptr;
        if (posix_memalign(&p, 64, size_t(n > 0 ? n : 1) * 4 + 64)) abort();
        held[count++] = p;
        return static_cast<float*>(p);
    }
    ~Workspace() {
        for (int i = 0; i < count; ++i) free(held[i]);
    }
};

struct PaddedImage {
    float* data = nullptr;
    int64_t channels, stride;               // of a pixel; a dense row gets 16 floats more, so that rows do not share cache sets
    int64_t pitch, plane, image;            // floats from line to line, plane to plane, image to image
    int64_t depth, height, width, inside;   // inside: floats from an image's corner to its first true pixel
    int64_t before[3], after[3];

    // `flipped` swaps the border's sides: the gradient runs the kernel backwards.
    PaddedImage(const RecurrentRun& run, int64_t channels_, bool flipped, Workspace& workspace, bool filled = true) : channels(channels_) {
        for (int i = 0; i < 3; ++i) {
            const int64_t total = run.dilation[i] * (run.kernel[i] - 1), half = total / 2;
            before[i] = flipped ? total - half : half;
            after[i] = total - before[i];
        }
        stride = run.dense() ? (channels + 15) / 16 * 16 + 16 : channels;
        depth = run.depth, height = run.height, width = run.width;
        const int64_t more = run.winograd() ? WINOGRAD_TILE - 1 : 0;  // the last tiles may overhang
        pitch = (width + before[2] + after[2] + more) * stride;
        plane = (height + before[1] + after[1] + more) * pitch;
        image = (depth + before[0] + after[0]) * plane;
        inside = before[0] * plane + before[1] * pitch + before[2] * stride;
        if (!filled) return;  // only the shape is needed
        data = workspace.floats(run.images * image);
        memset(data, 0, size_t(run.images * image) * 4);
    }
    // The corner of the window around pixel 0 of a line (lines are counted over images and planes).
    float* window(int64_t line) const {
        const int64_t y = line % height, z = line / height % depth, b = line / height / depth;
        return data + b * image + z * plane + y * pitch;
    }
    float* pixel(int64_t line, int64_t x) const { return window(line) + inside + x * stride; }

    // Copy the opposite sides into the border of the images that hold these lines.
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

// Which pixels are a thread's own. Whole images if there are enough, else lines; then the
// threads wait for each other at barriers.
Range partition(const RecurrentRun& run, const ThreadTeam& team) {
    const int64_t lines = run.images * run.depth * run.height;
    if (run.dense()) return {0, lines, run.width * team.index / team.count, run.width * (team.index + 1) / team.count};
    const int64_t side = run.winograd() ? WINOGRAD_TILE : 0, per_image = side ? (run.height + side - 1) / side : run.depth * run.height;
    const int64_t n = team.barrier ? run.images * per_image : run.images;
    auto first = [&](int64_t part) {
        const int64_t unit = n * part / team.count;
        if (!team.barrier) return unit * run.depth * run.height;
        return side ? unit / per_image * run.height + unit % per_image * side : unit;
    };
    return {first(team.index), first(team.index + 1), 0, run.width};
}

// A packed weight (out, in, *kernel), as it is or transposed for the gradient.
struct DirectProduct {
    PackedMatrix packed;
    int64_t offset[MAX_KERNEL_PIXELS];

    // `gates` groups of `each` columns; `channels` numbers a pixel; `padded` is the image it is applied to.
    void fill(const RecurrentRun& run, const float* weight, int64_t gates, int64_t each, int64_t channels, bool transposed,
              const PaddedImage& padded, Workspace& workspace) {
        const int64_t taps = run.kernel[0] * run.kernel[1] * run.kernel[2];
        const bool whole_lines = run.dilation[2] == 1;
        const int64_t across = whole_lines ? 1 : run.kernel[2];
        packed.segments = 0;
        for (int64_t z = 0; z < run.kernel[0]; ++z)
            for (int64_t y = 0; y < run.kernel[1]; ++y)
                for (int64_t x = 0; x < across; ++x)
                    offset[packed.segments++] = z * run.dilation[0] * padded.plane + y * run.dilation[1] * padded.pitch +
                                                x * run.dilation[2] * padded.stride;
        packed.offset = offset;
        packed.length = whole_lines ? run.kernel[2] * channels : channels;
        const int64_t per_gate = (each + W - 1) / W, depth = packed.depth();
        packed.vectors = gates * per_gate;
        float* data = workspace.floats(packed.vectors * depth * W);
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
