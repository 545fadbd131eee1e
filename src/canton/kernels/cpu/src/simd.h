// Vectors as wide as the instruction set that this file is compiled for, and the gates' functions.
// Everything here and in the headers that include it lies in an unnamed namespace. One source is compiled once for each
// instruction set, and a linker that merged the copies would give AVX-512 code to a processor without it. Standard headers
// with templates are not allowed here for the same reason.
#pragma once
#include <stdint.h>
#include <string.h>

#include "instruction_set.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define CANTON_WIDTH 16
#define CANTON_INSTRUCTION_SET AVX512
#define CANTON_NAME(name) name##_avx512
#elif defined(__AVX2__)
#define CANTON_WIDTH 8
#define CANTON_INSTRUCTION_SET AVX2
#define CANTON_NAME(name) name##_avx2
#else
#define CANTON_WIDTH 4
#define CANTON_INSTRUCTION_SET PORTABLE
#define CANTON_NAME(name) name##_portable
#endif

#define INLINE inline __attribute__((always_inline))

namespace {

constexpr int W = CANTON_WIDTH;
static_assert(W == LANES[CANTON_INSTRUCTION_SET]);
typedef float V __attribute__((vector_size(4 * CANTON_WIDTH)));
typedef int32_t I __attribute__((vector_size(4 * CANTON_WIDTH)));
typedef float Unaligned __attribute__((vector_size(4 * CANTON_WIDTH), aligned(4), may_alias));

INLINE V load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
INLINE void store(float* p, V v) { *reinterpret_cast<Unaligned*>(p) = v; }
INLINE V all(float x) { return x - V{}; }  // with "+" the compiler could not drop the addition, because -0 + 0 is 0

// The first n floats, n >= 0; the others in the vector are 0 and are neither read nor written.
#if CANTON_WIDTH == 16
INLINE __mmask16 mask(int n) { return __mmask16(n >= W ? 0xffff : (1 << n) - 1); }
INLINE V load(const float* p, int n) { return V(_mm512_maskz_loadu_ps(mask(n), p)); }
INLINE void store(float* p, V v, int n) { _mm512_mask_storeu_ps(p, mask(n), __m512(v)); }
#elif CANTON_WIDTH == 8
INLINE __m256i mask(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE V load(const float* p, int n) { return __builtin_expect(n >= W, 1) ? load(p) : V(_mm256_maskload_ps(p, mask(n))); }
INLINE void store(float* p, V v, int n) {
    if (__builtin_expect(n >= W, 1)) return store(p, v);  // masked stores are slow on AMD's first cores with AVX2
    _mm256_maskstore_ps(p, mask(n), __m256(v));
}
#else
INLINE V load(const float* p, int n) {
    if (__builtin_expect(n >= W, 1)) return load(p);
    V v{};
    memcpy(&v, p, 4 * size_t(n));
    return v;
}
INLINE void store(float* p, V v, int n) {
    if (__builtin_expect(n >= W, 1)) return store(p, v);
    memcpy(p, &v, 4 * size_t(n));
}
#endif

// exp as 2^k (1 + r + p r^2) with a polynomial p (Cephes expf), 1 ulp. A NaN stays a NaN: comparisons let it pass, and the
// power of two is multiplied, not added to the exponent.
struct ExponentialParts {
    V r, p, power;
};

INLINE ExponentialParts exponential_parts(V x) {
    x = x > all(88.0f) ? all(88.0f) : x;
    x = x < all(-87.3f) ? all(-87.3f) : x;
    const V magic = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to the nearest whole number
    V t = x * 1.44269504f + magic;
    V k = t - magic;
    V r = x - k * 0.693359375f;
    r = r - k * -2.12194440e-4f;
    V p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    I bits;
    memcpy(&bits, &t, sizeof bits);
    bits = (bits << 23) + 0x3f800000;  // the integer is in the low bits of t
    V power;
    memcpy(&power, &bits, sizeof power);
    return {r, p, power};
}

INLINE V exponential(V x) {
    const ExponentialParts e = exponential_parts(x);
    return (e.p * (e.r * e.r) + (e.r + 1.0f)) * e.power;
}

// exp(x) - 1 without the cancellation near 0.
INLINE V exponential_minus_one(V x) {
    const ExponentialParts e = exponential_parts(x);
    return (e.p * (e.r * e.r) + e.r) * e.power + (e.power - 1.0f);
}

INLINE V sigmoid(V x) { return 1.0f / (1.0f + exponential(-x)); }

// The smallest number whose tanh, computed as below, is exactly 1. One that stays below 1 would give a saturated unit a gradient.
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
constexpr float TANH_IS_ONE = 7.99881172180175781f;
#else
constexpr float TANH_IS_ONE = 7.90531110763549805f;
#endif

// A ratio of polynomials in x (the coefficients of Eigen's ptanh, MPL-2.0 constants), exact at 0 and 3 ulp elsewhere.
INLINE V tanh(V x) {
    x = x > all(TANH_IS_ONE) ? all(TANH_IS_ONE) : x;
    x = x < all(-TANH_IS_ONE) ? all(-TANH_IS_ONE) : x;
    V s = x * x;
    V p = all(-2.76076847742355e-16f);
    p = p * s + 2.00018790482477e-13f;
    p = p * s + -8.60467152213735e-11f;
    p = p * s + 5.12229709037114e-08f;
    p = p * s + 1.48572235717979e-05f;
    p = p * s + 6.37261928875436e-04f;
    p = p * s + 4.89352455891786e-03f;
    V run = all(1.19825839466702e-06f);
    run = run * s + 1.18534705686654e-04f;
    run = run * s + 2.26843463243900e-03f;
    run = run * s + 4.89352518554385e-03f;
    return x * p / run;
}

}  // namespace
