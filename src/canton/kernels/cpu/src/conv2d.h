// One convolution of many images, its gradient for them, and for its weight: two axes, any odd or even kernel, stride 1.
#pragma once
#include "thread_pool.h"
#include "winograd.h"

namespace {

// A band of lines of one image: what a thread works on at a time, so that it stays in its cache.
constexpr int64_t BAND = 8;

struct Convolution {
    const ConvolutionRun& run;
    Memory memory;
    Sequence band{};  // the sizes of a whole band
    int64_t bands;
    Map map;

    explicit Convolution(const ConvolutionRun& run_) : run(run_) {
        band.images = band.depth = 1, band.height = BAND, band.width = run.out_width, band.hidden = run.in;
        band.threads = run.threads, bands = (run.out_height + BAND - 1) / BAND;
        for (int i = 0; i < 3; ++i) band.kernel[i] = i ? run.kernel[i - 1] : 1, band.dilation[i] = 1;
        Memory scrap;
        const Field shape(band, run.in, false, scrap, false);
        map.fill(band, run.weight, 1, run.out, run.in, run.transposed, shape, memory);
    }

    void work(const Sequence& units, const Team& team) {
        Memory mine;
        const Field field(band, run.in, false, mine);
        float* whole = mine.floats(run.halve || run.slope != 1 ? BAND * run.out_width * run.out : 0);
        const int64_t end = units.images * (team.index + 1) / team.count;
        for (int64_t unit = units.images * team.index / team.count; unit < end; ++unit) {
            const int64_t image = unit / bands, top = unit % bands * BAND;
            const int64_t high = run.out_height - top < BAND ? run.out_height - top : BAND;
            fetch(run, field, image, top);
            const bool direct = !run.halve && run.slope == 1;
            float* y = direct ? run.y + (image * run.out_height + top) * run.out_width * run.out : whole;
            map.apply(field, Span{0, high, 0, run.out_width}, team.index,
                      [&](int64_t v, int64_t line, int64_t x, int rows, const float* sums, int64_t step) {
                          const int64_t column = v * W;
                          const int n = int(run.out - column < W ? run.out - column : W);
                          const V bias = run.bias ? load(run.bias + column, n) : V{};
                          float* to = y + (line * run.out_width + x) * run.out + column;
                          for (int i = 0; i < rows; ++i) store(to + i * run.out, load(sums + i * step) + bias, n);
                      });
            if (!direct) finish(whole, image, top, high);
        }
    }

    // The rectifier, and before it the maximum where one is asked for, from a band's buffer to y.
    void finish(const float* whole, int64_t image, int64_t top, int64_t high) const {
        const int64_t line = run.out_width * run.out, side = run.halve ? 2 : 1, wide = run.out_width / side;
        float* y = run.y + (image * (run.out_height / side) + top / side) * wide * run.out;
        const float slope = float(run.slope);
        for (int64_t i = 0; i < high / side; ++i)
            for (int64_t x = 0; x < wide; ++x)
                for (int64_t c = 0; c < run.out; c += W) {
                    const int n = int(run.out - c < W ? run.out - c : W);
                    const float* at = whole + i * side * line + x * side * run.out + c;
                    V v = load(at, n);
                    if (run.halve)
                        v = greater(greater(v, load(at + run.out, n)), greater(load(at + line, n), load(at + line + run.out, n)));
                    store(y + (i * wide + x) * run.out + c, v > all(0.0f) ? v : v * slope, n);
                }
    }
    static INLINE V greater(V a, V b) { return (a > b) | (a != a) ? a : b; }  // a NaN wins

    // Fills a field with the lines of an image that a band sees, zeros or the other side around it.
    static void fetch(const ConvolutionRun& run, const Field& field, int64_t image, int64_t top) {
        const int64_t lines = BAND + run.kernel[0] - 1, wide = run.out_width + run.kernel[1] - 1;
        for (int64_t i = 0; i < lines; ++i) {
            float* to = field.data + i * field.pitch;
            int64_t y = top + i - run.pad[0];
            if (run.circular) y = (y + run.height) % run.height;
            if (y < 0 || y >= run.height) {
                memset(to, 0, size_t(wide * run.in) * 4);
                continue;
            }
            const float* from = run.x + image * run.by_image + y * run.by_line;
            const int64_t left = run.pad[1], right = wide - left - run.width;
            if (run.by_channel == 1 && run.by_pixel == run.in) {
                memcpy(to + left * run.in, from, size_t(run.width * run.in) * 4);
            } else {
                for (int64_t c = 0; c < run.in; ++c)
                    for (int64_t x = 0; x < run.width; ++x)
                        to[(left + x) * run.in + c] = from[c * run.by_channel + x * run.by_pixel];
            }
            float* behind = to + (left + run.width) * run.in;
            if (run.circular) {
                memcpy(to, to + run.width * run.in, size_t(left * run.in) * 4);
                memcpy(behind, to + left * run.in, size_t(right * run.in) * 4);
            } else {
                memset(to, 0, size_t(left * run.in) * 4);
                memset(behind, 0, size_t(right * run.in) * 4);
            }
        }
    }
};

// Divides the bands of all images among the threads.
template <class Work>
void in_bands(const ConvolutionRun& run, int64_t bands, Work& work) {
    Sequence units{};
    units.images = run.images * bands, units.depth = units.height = units.width = 1;
    units.kernel[0] = 1, units.kernel[1] = units.kernel[2] = 2;  // not dense: threads divide the images
    units.circular = 1, units.threads = run.threads;
    struct Context {
        Work* work;
        const Sequence* units;
    } context{&work, &units};
    canton_parallel(units, &context, [](void* p, const Team& team) {
        Context* c = static_cast<Context*>(p);
        c->work->work(*c->units, team);
    });
}

void convolve(const ConvolutionRun& run) {
    Convolution convolution(run);
    in_bands(run, convolution.bands, convolution);
}

}  // namespace
