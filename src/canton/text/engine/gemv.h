// Product of a packed matrix and one vector (GEMV), in float32 or with int8 weights.
// Columns are packed in panels of eight SIMD vectors. int8 packs two rows together: weights have one scale for each
// column, the vector is int16 with one scale, sums are exact in int32.
#pragma once
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif
#include <math.h>

#include "buffer.h"
#include "simd.h"

namespace {

#if CANTON_WIDTH == 16
INLINE I dot_pairs(const int8_t* w, int32_t x, I sum) {
    __m512i wide = _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w)));
    return sum + I(_mm512_madd_epi16(wide, _mm512_set1_epi32(x)));
}
#elif CANTON_WIDTH == 8
INLINE I dot_pairs(const int8_t* w, int32_t x, I sum) {
    __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w)));
    return sum + I(_mm256_madd_epi16(wide, _mm256_set1_epi32(x)));
}
#elif defined(__SSE2__)
INLINE I dot_pairs(const int8_t* w, int32_t x, I sum) {
    __m128i twice = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(w));
    __m128i wide = _mm_srai_epi16(_mm_unpacklo_epi8(twice, twice), 8);
    return sum + I(_mm_madd_epi16(wide, _mm_set1_epi32(x)));
}
#else
INLINE I dot_pairs(const int8_t* w, int32_t x, I sum) {
    const int32_t low = int16_t(x), high = x >> 16;
    for (int i = 0; i < W; ++i) sum[i] += w[2 * i] * low + w[2 * i + 1] * high;
    return sum;
}
#endif

struct PackedMatrix {
    static constexpr int PANEL = 8;
    int64_t depth = 0, vectors = 0, rows = 0;  // rows: depth in float32, half of it, rounded up, in int8
    bool int8 = false;
    Buffer<float> weight, scale;
    Buffer<int8_t> int8_weight;
    float max_int16 = 32767;  // largest magnitude of the quantized vector

    // Packs `gates` blocks of (each, depth) rows; in the product every block starts at a whole SIMD vector.
    void pack(const float* from, int64_t gates, int64_t each, int64_t depth_, bool int8_) {
        const int64_t block = (each + W - 1) / W;
        int8 = int8_, depth = depth_, vectors = gates * block, rows = int8 ? (depth + 1) / 2 : depth;
        if (int8) {
            scale.allocate(vectors * W), int8_weight.allocate(vectors * W * rows * 2);
            const double most = 2147483647.0 / 127 / double(2 * rows);  // the int32 sums must not overflow
            max_int16 = most < 32767 ? floorf(float(most)) : 32767.0f;
        } else {
            weight.allocate(vectors * W * rows);
        }
        constexpr int64_t LINE = 16;  // tiles of one cache line a row, for writes that hit the cache
        for (int64_t first = 0; first < gates * each; first += LINE) {
            const int64_t end = first + LINE < gates * each ? first + LINE : gates * each;
            float inverse_scale[LINE];
            for (int64_t i = first; int8 && i < end; ++i) {
                const float top = max_abs(from + i * depth);
                scale.data[i / each * block * W + i % each] = top / 127;
                inverse_scale[i - first] = top > 0 ? 127 / top : 0.0f;
            }
            for (int64_t k0 = 0; k0 < depth; k0 += LINE)
                for (int64_t i = first; i < end; ++i) {
                    const int64_t v = i / each * block + i % each / W, panel = v / PANEL * PANEL;
                    const int64_t wide = (vectors - panel < PANEL ? vectors - panel : PANEL) * W;
                    const int64_t start = panel * W * rows, lane = (v - panel) * W + i % each % W;
                    const float* row = from + i * depth;
                    for (int64_t k = k0; k < (k0 + LINE < depth ? k0 + LINE : depth); ++k) {
                        if (int8)
                            int8_weight.data[2 * (start + k / 2 * wide + lane) + k % 2] =
                                int8_t(lrintf(row[k] * inverse_scale[i - first]));
                        else
                            weight.data[start + k * wide + lane] = row[k];
                    }
                }
        }
    }

    // y (vectors * W) = the matrix times x (depth). `scratch` holds 2 * rows int16.
    void multiply(const float* x, float* y, int16_t* scratch) const {
        const float step = int8 ? quantize(x, scratch) : 0.0f;
        for (int64_t v = 0; v < vectors; v += PANEL) {
            switch (vectors - v < PANEL ? vectors - v : PANEL) {
                case 8: multiply_panel<8>(x, scratch, step, v, y + v * W); break;
                case 7: multiply_panel<7>(x, scratch, step, v, y + v * W); break;
                case 6: multiply_panel<6>(x, scratch, step, v, y + v * W); break;
                case 5: multiply_panel<5>(x, scratch, step, v, y + v * W); break;
                case 4: multiply_panel<4>(x, scratch, step, v, y + v * W); break;
                case 3: multiply_panel<3>(x, scratch, step, v, y + v * W); break;
                case 2: multiply_panel<2>(x, scratch, step, v, y + v * W); break;
                default: multiply_panel<1>(x, scratch, step, v, y + v * W);
            }
        }
    }

private:
    float max_abs(const float* x) const {
        V most{};
        for (int64_t k = 0; k < depth; k += W) {
            const V v = load(x + k, int(depth - k < W ? depth - k : W)), size = v < 0.0f ? -v : v;
            most = size > most ? size : most;
        }
        float top = 0;
        for (int i = 0; i < W; ++i) top = most[i] > top ? most[i] : top;
        return top;
    }

    // Quantizes x to int16; returns the quantization step, NaN if a number in x is not finite.
    float quantize(const float* x, int16_t* out) const {
        V not_finite{};
        for (int64_t k = 0; k < depth; k += W) not_finite += load(x + k, int(depth - k < W ? depth - k : W)) * 0.0f;
        float not_finite_sum = 0;
        for (int i = 0; i < W; ++i) not_finite_sum += not_finite[i];
        const float top = max_abs(x), inverse_step = top > 0 && top < INFINITY ? max_int16 / top : 0.0f;
        for (int64_t k = 0; k < depth; ++k) out[k] = int16_t(x[k] * inverse_step + (x[k] < 0 ? -0.5f : 0.5f));
        for (int64_t k = depth; k < 2 * rows; ++k) out[k] = 0;
        return inverse_step > 0 ? 1 / inverse_step + not_finite_sum : not_finite_sum;
    }

    template <int N>
    __attribute__((noinline)) void multiply_panel(const float* x, const int16_t* xs, float step, int64_t v, float* y) const {
        if (int8) {
            const int8_t* w = int8_weight.data + 2 * v * W * rows;
            I sum[N] = {};
            for (int64_t k = 0; k < rows; ++k, w += 2 * N * W) {
                int32_t pair;
                memcpy(&pair, xs + 2 * k, 4);
#pragma GCC unroll 8
                for (int n = 0; n < N; ++n) sum[n] = dot_pairs(w + 2 * n * W, pair, sum[n]);
            }
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n)
                store(y + n * W, __builtin_convertvector(sum[n], V) * step * load(scale.data + (v + n) * W));
            return;
        }
        const float* w = weight.data + v * W * rows;
        V sum[N] = {};
#pragma GCC unroll 2
        for (int64_t k = 0; k < rows; ++k, w += N * W) {
            for (int n = 0; n < N; n += 16 / W) __builtin_prefetch(w + (8 * N + n) * W);  // weights exceed the L2 cache
            V xk = all(x[k]);
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n) sum[n] += xk * load(w + n * W);
        }
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) store(y + n * W, sum[n]);
    }
};

}  // namespace
