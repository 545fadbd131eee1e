// Sampling of the next byte from logits, as canton.text.generate does it.
#pragma once
#include <math.h>

#include "engine_abi.h"
#include "simd.h"

namespace {

// A heap of bytes with the highest logit on top, the smaller byte first among equals.
struct ByteHeap {
    const float* logit;
    int heap[256], size = 0;

    bool above(int a, int b) const { return logit[a] > logit[b] || (logit[a] == logit[b] && a < b); }
    void sift_down(int i) {
        for (;;) {
            int top = i, left = 2 * i + 1, right = left + 1;
            if (left < size && above(heap[left], heap[top])) top = left;
            if (right < size && above(heap[right], heap[top])) top = right;
            if (top == i) return;
            int swap = heap[i];
            heap[i] = heap[top], heap[top] = swap, i = top;
        }
    }
    void build() {
        for (int i = size / 2 - 1; i >= 0; --i) sift_down(i);
    }
    int pop() {
        int best = heap[0];
        heap[0] = heap[--size];
        sift_down(0);
        return best;
    }
};

// Sets the logits of the bytes that may not come next to -infinity.
inline void mask_utf8(const EngineCall& call, int64_t remaining, float* logit) {
    const int8_t* next = call.utf8_next + call.utf8_state * 256;
    const uint8_t* fits = call.utf8_fits + ((remaining < 4 ? remaining - 1 : 3) * 8 + call.utf8_state) * 256;
    bool any = false;
    for (int i = 0; i < 256; ++i) any |= fits[i] != 0;
    for (int i = 0; i < 256; ++i)
        if (any ? fits[i] == 0 : next[i] < 0) logit[i] = -__builtin_inff();
}

// How often each byte occurs in the last repetition_window bytes of the text.
struct RepetitionWindow {
    int64_t count[256] = {};

    explicit RepetitionWindow(const EngineCall& call) {
        for (int64_t i = 0; i < call.recent_size; ++i) ++count[call.recent[i]];
    }
    // Adds byte `k` of the generated text and removes the one that leaves the window.
    void append(const EngineCall& call, int64_t k) {
        ++count[call.out[k]];
        const int64_t left = call.recent_size + k - call.repetition_window;
        if (left >= 0) --count[left < call.recent_size ? call.recent[left] : call.out[left - call.recent_size]];
    }
};

// Returns the bits of `byte` under softmax(logits).
inline float surprisal(const float* logits, int byte) {
    V peak = all(-__builtin_inff()), sum{};
    for (int i = 0; i < 256; i += W) {
        const V here = load(logits + i);
        peak = here > peak ? here : peak;
    }
    float top = peak[0], total = 0;
    for (int i = 1; i < W; ++i) top = peak[i] > top ? peak[i] : top;
    for (int i = 0; i < 256; i += W) sum += exponential(load(logits + i) - top);
    for (int i = 0; i < W; ++i) total += sum[i];
    return (logf(total) - (logits[byte] - top)) * 1.44269504f;
}

// Returns the byte whose interval of the cumulative probabilities holds `uniform`, -1 if the logits are not finite.
// `seen` counts each byte of the repetition window.
inline int sample(const EngineCall& call, double uniform, int64_t remaining, const int64_t* seen) {
    const float lowest = -__builtin_inff();
    alignas(64) float logit[256], probability[256];  // probabilities are not normalised
    memcpy(logit, call.logits, sizeof logit);
    if (call.utf8_state >= 0) mask_utf8(call, remaining, logit);
    if (call.logit_bias)
        for (int i = 0; i < 256; ++i) logit[i] += call.logit_bias[i];
    if (const float penalty = float(call.repetition_penalty); penalty != 1)
        for (int i = 0; i < 256; ++i)
            if (seen[i]) logit[i] = logit[i] > 0 ? logit[i] / penalty : logit[i] * penalty;
    V peak = all(lowest), difference{};
    for (int i = 0; i < 256; i += W) {
        const V masked = load(logit + i), given = load(call.logits + i);
        peak = masked > peak ? masked : peak;
        difference += given - given;  // NaN if one is not finite
    }
    float top = lowest, not_finite = 0;
    for (int i = 0; i < W; ++i) top = peak[i] > top ? peak[i] : top, not_finite += difference[i];
    if (not_finite != 0) return -1;
    int best = 0;
    while (best < 255 && logit[best] != top) ++best;
    if (top == lowest) return -1;
    if (call.temperature == 0) return best;

    const float inverse_temperature = float(1 / call.temperature);
    for (int i = 0; i < 256; i += W) {
        const V masked = load(logit + i);
        store(probability + i, masked == all(lowest) ? V{} : exponential((masked - top) * inverse_temperature));
    }
    const float lowest_kept = float(call.min_p);
    if (call.top_k == 0 && call.top_p >= 1) {  // no sorting: bytes in their own order, 16 blocks of 16
        if (lowest_kept > 0)
            for (int i = 0; i < 256; ++i)
                if (probability[i] < lowest_kept) probability[i] = 0;
        double ends[16], total = 0;
        for (int i = 0; i < 16; ++i) {
            double sum = 0;
            for (int k = 0; k < 16; ++k) sum += probability[16 * i + k];
            ends[i] = sum;
        }
        for (int i = 0; i < 16; ++i) ends[i] = total += ends[i];
        int block = 0, byte = best;
        while (block < 15 && ends[block] <= uniform * total) ++block;
        double sum = block ? ends[block - 1] : 0;
        for (int i = 16 * block; i < 16 * block + 16 && sum <= uniform * total; ++i)
            if (probability[i] > 0) sum += probability[i], byte = i;
        return byte;
    }
    ByteHeap candidates;
    candidates.logit = logit;
    for (int i = 0; i < 256; ++i)
        if (logit[i] != lowest) candidates.heap[candidates.size++] = i;
    candidates.build();
    int sorted[256], count = 0;
    double ends[256], sum = 0;
    const int most = call.top_k && call.top_k < candidates.size ? int(call.top_k) : candidates.size;
    while (count < most) {
        sorted[count] = candidates.pop();
        ends[count] = sum += probability[sorted[count]];
        ++count;
    }
    if (call.top_p < 1) {
        int last = 0;
        while (last < count - 1 && ends[last] < call.top_p * ends[count - 1]) ++last;
        count = last + 1;
    }
    while (probability[sorted[count - 1]] < lowest_kept) --count;
    int chosen = 0;
    while (chosen < count - 1 && ends[chosen] <= uniform * ends[count - 1]) ++chosen;
    return sorted[chosen];
}

}  // namespace
