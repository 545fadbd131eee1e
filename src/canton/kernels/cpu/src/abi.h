// What Python hands over: sizes, and addresses of contiguous float32 arrays. Field for field as in binding.py.
// Pixels come before channels: gx is (steps, images, depth, height, width, gates * hidden). A dense batch has no
// pixels; its rows are laid along `width` of one image with a kernel of one pixel.
#pragma once
#include <stdint.h>

struct Sequence {
    int64_t steps, images, depth, height, width, hidden;
    int64_t kernel[3], dilation[3];
    int64_t circular, flag, threads;
    const float *gx, *first, *second, *vector;  // first, second: (out, in, *kernel) weights; vector: bias, peephole
    float *hs, *cs;                             // (steps + 1, pixels, hidden); entry 0 is the initial state
    float *acts;                                // (steps, pixels, saved) or null when no gradient is wanted
    const float* dys;                           // (steps, pixels, hidden)
    float *dh, *dc;                             // in: gradients of the final state; out: of the initial one
    float *dgx, *seen, *dvector;                // seen: what the second product saw, for its weight's gradient
    // Of the rows of a dense batch, else of the images (see rows.h). Each is null where nobody asked for it.
    const int64_t *order, *lengths;  // all of them, the longest first; how many steps of each count: later outputs are 0
    const uint8_t* reset;            // (steps, rows or images): where not 0, it starts afresh before the step
    const float *fresh, *fresh_c;    // (pixels, hidden), what it starts from
    float *dfresh, *dfresh_c;        // zeros; out: their gradients

    __attribute__((always_inline)) int64_t pixels() const { return images * depth * height * width; }
    __attribute__((always_inline)) bool dense() const { return kernel[0] * kernel[1] * kernel[2] == 1; }
};

// A convolution of images (images, in, height, width) whose floats lie `by_...` apart, stride 1. out_height = height + 2 pad
// - kernel + 1 if nothing is circular. Its output y is contiguous (images, out_height, out_width, out), half as high
// and wide, rounded down, if `halve` says so. `weight` is (out,
// in, *kernel), or, transposed and to be read backwards, (in, out, *kernel): then y is the gradient of the input.
struct ConvolutionRun {
    int64_t images, in, out, height, width, out_height, out_width;
    int64_t kernel[2], pad[2];
    int64_t circular, transposed, threads;
    int64_t by_image, by_channel, by_line, by_pixel;
    const float *x, *weight, *bias;
    float* y;
    int64_t halve;  // y is then the greatest of every 2 x 2 pixels
    double slope;   // what numbers below zero are multiplied by; 1 for a plain convolution
    const float* dy;   // for the weight's gradient: that of y, its pixels `dy_pixel` floats apart, one after the other
    int64_t dy_pixel;
    float* dweight;    // (out, in, *kernel)
};

// c[i, j] = the sum over k of a[i, k] b[k, j], plus bias[j] where there is one. Of a's and of b's two steps one is 1.
struct MatmulRun {
    int64_t rows, columns, depth, threads;
    int64_t a_row, a_depth, b_column, b_depth, c_row;  // floats from one to the next
    int64_t levels;                                    // of Strassen's recipe; 0 multiplies plainly
    const float *a, *b, *bias;
    float* c;
};

// A thread's view of the team: which part is its own, and the wait for the others.
struct Team {
    int64_t index, count;
    void (*barrier)(void*);
    void* shared;
    __attribute__((always_inline)) void wait() const {
        if (barrier) barrier(shared);
    }
};
