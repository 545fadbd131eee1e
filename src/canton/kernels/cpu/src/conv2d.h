// One two-dimensional convolution of many images with stride 1, or the gradient of its input.
#pragma once
#include "thread_pool.h"
#include "winograd.h"

namespace {

// Lines of one image that a thread works on at a time, so that they stay in its cache.
constexpr int64_t BAND = 8;

struct Convolution {
    const ConvolutionRun& run;
    Workspace workspace;
    RecurrentRun band{};  // the sizes of a whole band
    int64_t bands;
    MapProduct map;

    explicit Convolution(const ConvolutionRun& run_) : run(run_) {
        band.images = band.depth = 1, band.height = BAND, band.width = run.out_width, band.hidden = run.in_channels;
        band.threads = run.threads, bands = (run.out_height + BAND - 1) / BAND;
        for (int i = 0; i < 3; ++i) band.kernel[i] = i ? run.kernel[i - 1] : 1, band.dilation[i] = 1;
        Workspace scrap;
        const PaddedImage shape(band, run.in_channels, false, scrap, false);
        map.fill(band, run.weight, 1, run.out_channels, run.in_channels, run.transposed, shape, workspace);
    }

    void work(const RecurrentRun& units, const ThreadTeam& team) {
        Workspace mine;
        const PaddedImage padded(band, run.in_channels, false, mine);
        const int64_t end = units.images * (team.index + 1) / team.count;
        for (int64_t unit = units.images * team.index / team.count; unit < end; ++unit) {
            const int64_t image = unit / bands, top = unit % bands * BAND;
            const int64_t high = run.out_height - top < BAND ? run.out_height - top : BAND;
            fetch(run, padded, image, top);
            float* y = run.y + (image * run.out_height + top) * run.out_width * run.out_channels;
            map.apply(padded, Range{0, high, 0, run.out_width}, team.index,
                      [&](int64_t v, int64_t line, int64_t x, int rows, const float* sums, int64_t step) {
                          const int64_t column = v * W;
                          const int n = int(run.out_channels - column < W ? run.out_channels - column : W);
                          const V bias = run.bias ? load(run.bias + column, n) : V{};
                          float* to = y + (line * run.out_width + x) * run.out_channels + column;
                          for (int i = 0; i < rows; ++i) store(to + i * run.out_channels, load(sums + i * step) + bias, n);
                      });
        }
    }

    // Fill a padded image with the lines that a band reads, and its border with zeros or the opposite side.
    static void fetch(const ConvolutionRun& run, const PaddedImage& padded, int64_t image, int64_t top) {
        const int64_t lines = BAND + run.kernel[0] - 1, wide = run.out_width + run.kernel[1] - 1;
        for (int64_t i = 0; i < lines; ++i) {
            float* to = padded.data + i * padded.pitch;
            int64_t y = top + i - run.pad[0];
            if (run.circular) y = (y + run.height) % run.height;
            if (y < 0 || y >= run.height) {
                memset(to, 0, size_t(wide * run.in_channels) * 4);
                continue;
            }
            const float* from = run.x + image * run.by_image + y * run.by_line;
            const int64_t left = run.pad[1], right = wide - left - run.width;
            if (run.by_channel == 1 && run.by_pixel == run.in_channels) {
                memcpy(to + left * run.in_channels, from, size_t(run.width * run.in_channels) * 4);
            } else {
                for (int64_t c = 0; c < run.in_channels; ++c)
                    for (int64_t x = 0; x < run.width; ++x)
                        to[(left + x) * run.in_channels + c] = from[c * run.by_channel + x * run.by_pixel];
            }
            float* behind = to + (left + run.width) * run.in_channels;
            if (run.circular) {
                memcpy(to, to + run.width * run.in_channels, size_t(left * run.in_channels) * 4);
                memcpy(behind, to + left * run.in_channels, size_t(right * run.in_channels) * 4);
            } else {
                memset(to, 0, size_t(left * run.in_channels) * 4);
                memset(behind, 0, size_t(right * run.in_channels) * 4);
            }
        }
    }
};

// Divide the bands of all images among the threads.
template <class Work>
void in_bands(const ConvolutionRun& run, int64_t bands, Work& work) {
    RecurrentRun units{};
    units.images = run.images * bands, units.depth = units.height = units.width = 1;
    units.kernel[0] = 1, units.kernel[1] = units.kernel[2] = 2;  // not dense: threads divide the images
    units.circular = 1, units.threads = run.threads;
    struct Context {
        Work* work;
        const RecurrentRun* units;
    } context{&work, &units};
    canton_parallel(units, &context, [](void* p, const ThreadTeam& team) {
        Context* c = static_cast<Context*>(p);
        c->work->work(*c->units, team);
    });
}

void convolve(const ConvolutionRun& run) {
    Convolution convolution(run);
    in_bands(run, convolution.bands, convolution);
}

}  // namespace
