// One vector times a matrix that was packed once: what writing byte after byte spends its time on.
// Columns lie in panels of eight vectors. With whole numbers, two rows at a time: weights of 8 bits with a scale for
// each column, the vector as 16 bits with a scale of its own; the sums are exact.
#pragma once
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif
#include <math.h>
#include <stdlib.h>

#include "abi.h"
#include "simd.h"

namespace {

#if CANTON_WIDTH == 16
INLINE I pairs(const int8_t* w, int32_t x, I sum) {
    __m512i wide = _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w)));
    return sum + I(_mm512_madd_epi16(wide, _mm512_set1_epi32(x)));
}
#elif CANTON_WIDTH == 8
INLINE I pairs(const int8_t* w, int32_t x, I sum) {
    __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w)));
    return sum + I(_mm256_madd_epi16(wide, _mm256_set1_epi32(x)));
}
#elif defined(__SSE2__)
INLINE I pairs(const int8_t* w, int32_t x, I sum) {
    __m128i twice = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(w));
    __m128i wide = _mm_srai_epi16(_mm_unpacklo_epi8(twice, twice), 8);
    return sum + I(_mm_madd_epi16(wide, _mm_set1_epi32(x)));
}
#else
INLINE I pairs(const int8_t* w, int32_t x, I sum) {
    const int32_t low = int16_t(x), high = x >> 16;
    for (int i = 0; i < W; ++i) sum[i] += w[2 * i] * low + w[2 * i + 1] * high;
    return sum;
}
#endif

// The numbers [first, last) of a vector.
struct Range {
    int64_t first, last;
};

struct Matrix {
    static constexpr int PANEL = 8;
    int64_t depth = 0, vectors = 0, rows = 0;  // rows: depth, for whole numbers in pairs
    float *weight = nullptr, *scale = nullptr;
    int8_t* whole = nullptr;
    float limit = 32767;

    ~Matrix() { free(weight), free(scale), free(whole); }

    // weight (gates * each, depth) row by row; every gate begins at a whole vector of the product.
    void pack(const float* from, int64_t gates, int64_t each, int64_t depth_, bool int8) {
        const int64_t per = (each + W - 1) / W;
        depth = depth_, vectors = gates * per, rows = int8 ? (depth + 1) / 2 : depth;
        if (int8) {
            scale = static_cast<float*>(calloc(size_t(vectors * W), 4));
            whole = static_cast<int8_t*>(calloc(size_t(vectors * W * rows), 2));
            const double most = 2147483647.0 / 127 / double(2 * rows);  // so that a sum of 32 bits cannot overflow
            limit = most < 32767 ? floorf(float(most)) : 32767.0f;
        } else if (posix_memalign(reinterpret_cast<void**>(&weight), 64, size_t(vectors * W * rows) * 4)) {
            abort();
        } else {
            memset(weight, 0, size_t(vectors * W * rows) * 4);
        }
        constexpr int64_t LINE = 16;  // a line of the cache of every row at a time, or writing would miss it
        for (int64_t first = 0; first < gates * each; first += LINE) {
            const int64_t end = first + LINE < gates * each ? first + LINE : gates * each;
            float by[LINE];
            for (int64_t i = first; int8 && i < end; ++i) {
                const float top = greatest(from + i * depth);
                scale[i / each * per * W + i % each] = top / 127, by[i - first] = top > 0 ? 127 / top : 0.0f;
            }
            for (int64_t k0 = 0; k0 < depth; k0 += LINE)
                for (int64_t i = first; i < end; ++i) {
                    const int64_t v = i / each * per + i % each / W, panel = v / PANEL * PANEL;
                    const int64_t wide = (vectors - panel < PANEL ? vectors - panel : PANEL) * W;
                    const int64_t place = panel * W * rows, lane = (v - panel) * W + i % each % W;
                    const float* row = from + i * depth;
                    for (int64_t k = k0; k < (k0 + LINE < depth ? k0 + LINE : depth); ++k) {
                        if (int8)
                            whole[2 * (place + k / 2 * wide + lane) + k % 2] = int8_t(lrintf(row[k] * by[i - first]));
                        else
                            weight[place + k * wide + lane] = row[k];
                    }
                }
        }
    }

    // A thread's part of y (vectors * W) = x (depth) times the matrix: returns which. `space` holds 2 * rows + 2W numbers
    // of 16 bits.
    Range times(const float* x, float* y, int16_t* space, const Team& team = {0, 1, nullptr, nullptr}) const {
        float step = 0;
        if (whole) step = narrow(x, space);
        const int64_t panels = (vectors + PANEL - 1) / PANEL, last = panels * (team.index + 1) / team.count * PANEL;
        const int64_t first = panels * team.index / team.count * PANEL, end = last < vectors ? last : vectors;
        for (int64_t v = first; v < end; v += PANEL) {
            const int64_t wide = vectors - v < PANEL ? vectors - v : PANEL;
            switch (wide) {
                case 8: panel<8>(x, space, step, v, y + v * W); break;
                case 7: panel<7>(x, space, step, v, y + v * W); break;
                case 6: panel<6>(x, space, step, v, y + v * W); break;
                case 5: panel<5>(x, space, step, v, y + v * W); break;
                case 4: panel<4>(x, space, step, v, y + v * W); break;
                case 3: panel<3>(x, space, step, v, y + v * W); break;
                case 2: panel<2>(x, space, step, v, y + v * W); break;
                default: panel<1>(x, space, step, v, y + v * W);
            }
        }
        return {first * W, end * W};
    }

private:
    // The greatest size of a number of x.
    float greatest(const float* x) const {
        V most{};
        for (int64_t k = 0; k < depth; k += W) {
            const V v = load(x + k, int(depth - k < W ? depth - k : W)), size = v < 0.0f ? -v : v;
            most = size > most ? size : most;
        }
        float top = 0;
        for (int i = 0; i < W; ++i) top = most[i] > top ? most[i] : top;
        return top;
    }

    // x in whole numbers; returns what one of them is worth, NaN if x holds something that is no number.
    float narrow(const float* x, int16_t* out) const {
        V bad{};
        for (int64_t k = 0; k < depth; k += W) bad += load(x + k, int(depth - k < W ? depth - k : W)) * 0.0f;
        float top = greatest(x), poison = 0;
        for (int i = 0; i < W; ++i) poison += bad[i];
        const float by = top > 0 && top < INFINITY ? limit / top : 0.0f;
        for (int64_t k = 0; k < depth; ++k) out[k] = int16_t(x[k] * by + (x[k] < 0 ? -0.5f : 0.5f));
        for (int64_t k = depth; k < 2 * rows; ++k) out[k] = 0;
        return by > 0 ? 1 / by + poison : poison;
    }

    template <int N>
    __attribute__((noinline)) void panel(const float* x, const int16_t* xs, float step, int64_t v, float* y) const {
        if (whole) {
            const int8_t* w = whole + 2 * v * W * rows;
            I sum[N] = {};
            for (int64_t k = 0; k < rows; ++k, w += 2 * N * W) {
                int32_t x2;
                memcpy(&x2, xs + 2 * k, 4);
#pragma GCC unroll 8
                for (int n = 0; n < N; ++n) sum[n] = pairs(w + 2 * n * W, x2, sum[n]);
            }
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n)
                store(y + n * W, __builtin_convertvector(sum[n], V) * step * load(scale + (v + n) * W));
            return;
        }
        const float* w = weight + v * W * rows;
        V sum[N] = {};
#pragma GCC unroll 2
        for (int64_t k = 0; k < rows; ++k, w += N * W) {
            V xk = all(x[k]);
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n) sum[n] += xk * load(w + n * W);
        }
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) store(y + n * W, sum[n]);
    }
};

}  // namespace
