// Probabilities of the next byte as whole numbers, for an arithmetic coder.
#pragma once
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "simd.h"

namespace {

enum { FREQUENCY_BITS = 24 };

// Writes 256 whole numbers >= 1 with the sum 2^FREQUENCY_BITS; returns false if the logits are not finite. Sums run in the order
// of the bytes, so that the numbers are the same for all vector widths.
inline bool frequencies(const float* logits, int32_t* out) {
    float top = logits[0];
    bool finite = true;
    for (int i = 0; i < 256; ++i) {
        finite = finite && logits[i] - logits[i] == 0;
        if (logits[i] > top) top = logits[i];
    }
    if (!finite) return false;
    alignas(64) float weight[256];
    for (int i = 0; i < 256; i += W) store(weight + i, exponential(load(logits + i) - top));
    double total = 0;
    for (int i = 0; i < 256; ++i) total += weight[i];
    const int32_t whole = 1 << FREQUENCY_BITS;
    const double scale = (whole - 256) / total;
    int32_t left = whole;
    int best = 0;
    for (int i = 0; i < 256; ++i) {
        out[i] = 1 + int32_t(weight[i] * scale);
        left -= out[i];
        if (weight[i] > weight[best]) best = i;
    }
    out[best] += left;  // what rounding down left over
    return true;
}

// The processor's default rounding while it lives: to nearest, with denormals. A program may have set another for this thread.
class DefaultRounding {
public:
    DefaultRounding() {
#if defined(__SSE2__)
        former = _mm_getcsr();
        _mm_setcsr(0x1F80);
#endif
    }
    ~DefaultRounding() {
#if defined(__SSE2__)
        _mm_setcsr(former);
#endif
    }

private:
    unsigned former = 0;
};

}  // namespace
