// The arguments from Python: sizes, and addresses of contiguous float32 arrays. abi.py repeats these structs; the tables at the
// end let it check every field and constant when it loads the library.
// Pixels come before channels: gx is (steps, images, depth, height, width, gates * hidden). A dense batch has no pixels; its
// rows lie along `width` of one image with a kernel of one pixel.
#pragma once
#include <stdint.h>

constexpr int64_t MAX_PRODUCTS = 2, MAX_STATES = 4;  // of a cell
constexpr int64_t MAX_KERNEL_PIXELS = 343;
constexpr int64_t MIN_WINOGRAD_CHANNELS = 8;  // with fewer a plain convolution is quicker
constexpr int64_t WINOGRAD_TILE = 4;          // outputs per side of a tile

struct RecurrentRun {
    int64_t steps, images, depth, height, width, hidden;
    int64_t kernel[3], dilation[3];
    int64_t circular, threads;
    const float* gx;
    const float* weights[MAX_PRODUCTS];   // (out, in, *kernel)
    float* states[MAX_STATES];            // (steps + 1, pixels, hidden); entry 0 is the initial state
    float* saved;                         // (steps, pixels, saved) or null without gradients
    const float* d_outputs;               // (steps, pixels, hidden)
    float* d_states[MAX_STATES];          // in: gradients of the final state; out: of the initial one
    float* d_gx;
    float* product_inputs[MAX_PRODUCTS];  // out: inputs of products that do not read the hidden state, for their weights' gradients
    // For each row of a dense batch, else for each image; null if not asked for.
    const int64_t *order, *lengths;       // all of them, the longest first; how many steps of each count
    const uint8_t* reset;                 // (steps, rows or images): where not 0, the state restarts before the step
    const float* reset_state[MAX_STATES]; // (pixels, hidden), the state to restart from
    float* d_reset_state[MAX_STATES];     // zeros; out: its gradients

    __attribute__((always_inline)) int64_t pixels() const { return images * depth * height * width; }
    __attribute__((always_inline)) bool dense() const { return kernel[0] * kernel[1] * kernel[2] == 1; }
    // Whether its convolutions run as Winograd tiles.
    __attribute__((always_inline)) bool winograd() const {
        const bool square = kernel[1] == kernel[2] && dilation[1] == 1 && dilation[2] == 1;
        return square && depth * kernel[0] == 1 && hidden >= MIN_WINOGRAD_CHANNELS && (kernel[1] == 3 || kernel[1] == 5);
    }
};

// A convolution of images (images, in_channels, height, width) whose floats lie `by_...` apart, stride 1. Without circular
// padding out_height = height + 2 pad - kernel + 1. The output y is contiguous (images, out_height, out_width, out_channels).
// `weight` is (out, in, *kernel). If transposed it is (in, out, *kernel) and is read backwards: then y is the input's gradient.
struct ConvolutionRun {
    int64_t images, in_channels, out_channels, height, width, out_height, out_width;
    int64_t kernel[2], pad[2];
    int64_t circular, transposed, threads;
    int64_t by_image, by_channel, by_line, by_pixel;
    const float *x, *weight, *bias;
    float* y;
    const float* dy;   // for the weight's gradient: y's, its pixels `dy_pixel` floats apart, one after the other
    int64_t dy_pixel;
    float* dweight;    // (out, in, *kernel)
};

// c[i, j] = the sum over k of a[i, k] b[k, j], plus bias[j] if there is one. One of a's two strides is 1, and one of b's.
struct GemmRun {
    int64_t rows, columns, depth, threads;
    int64_t a_row, a_depth, b_column, b_depth, c_row;  // floats from one to the next
    const float *a, *b, *bias;
    float* c;
};

// A matrix whose rows lie `row` floats apart, overwritten by its tanh.
struct TanhRun {
    int64_t rows, columns, row, threads;
    float* x;
};

// A thread's view of its team: its own part, and the wait for the others.
struct ThreadTeam {
    int64_t index, count;
    void (*barrier)(void*);
    void* shared;
    __attribute__((always_inline)) void wait() const {
        if (barrier) barrier(shared);
    }
};

// A cell's functions for one instruction set; `is_quick` tells whether one step packs no weights, few, or cached ones.
struct CellFunctions {
    void (*forward)(const RecurrentRun&);
    void (*backward)(const RecurrentRun&);
    bool (*is_quick)(const RecurrentRun&);
};
