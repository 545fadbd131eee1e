// The byte on which a uniform number falls: the twin of canton.text's `draw`.
#pragma once
#include "simd.h"
#include "writing.h"

namespace {

// A heap of bytes with the likeliest on top, the smaller byte first among equals.
struct Likeliest {
    const float* score;
    int heap[256], size = 0;

    bool above(int a, int b) const { return score[a] > score[b] || (score[a] == score[b] && a < b); }
    void sink(int i) {
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
        for (int i = size / 2 - 1; i >= 0; --i) sink(i);
    }
    int pop() {
        int best = heap[0];
        heap[0] = heap[--size];
        sink(0);
        return best;
    }
};

// Returns -1 if the scores are not numbers.
inline int draw(const WriterRun& run, double uniform, int64_t room) {
    Likeliest left;
    left.score = run.scores;
    const int8_t* next = run.character < 0 ? nullptr : run.next + run.character * 256;
    const uint8_t* fits = nullptr;
    if (next) {
        fits = run.fits + ((room < 4 ? room - 1 : 3) * 8 + run.character) * 256;
        bool any = false;
        for (int i = 0; i < 256; ++i) any |= fits[i] != 0;
        if (!any) fits = nullptr;
    }
    for (int i = 0; i < 256; ++i)
        if (!next || (fits ? fits[i] != 0 : next[i] >= 0)) left.heap[left.size++] = i;
    float top = -__builtin_inff();
    int best = -1;
    for (int i = 0; i < left.size; ++i) {
        const float s = run.scores[left.heap[i]];
        if (!(s - s == 0)) return -1;
        if (s > top) top = s, best = left.heap[i];
    }
    if (run.temperature == 0 || best < 0) return best;

    alignas(64) float chance[256];
    const float by = float(1 / run.temperature);
    for (int i = 0; i < 256; i += W) store(chance + i, exponential((load(run.scores + i) - top) * by));
    double total = 0;
    for (int i = 0; i < left.size; ++i) total += chance[left.heap[i]];
    if (run.top_k == 0 && run.top_p >= 1) {  // nothing to sort: the bytes as they come
        double sum = 0;
        int byte = best;
        for (int i = 0; i < left.size && sum <= uniform * total; ++i)
            if (const float part = chance[left.heap[i]]; part > 0) sum += part, byte = left.heap[i];
        return byte;
    }
    left.build();
    int kept[256], count = 0;
    double ends[256], sum = 0;
    const int most = run.top_k && run.top_k < left.size ? int(run.top_k) : left.size;
    while (count < most) {
        kept[count] = left.pop();
        ends[count] = sum += chance[kept[count]];
        ++count;
    }
    if (run.top_p < 1) {
        int last = 0;
        while (last < count - 1 && ends[last] < run.top_p * ends[count - 1]) ++last;
        count = last + 1;
    }
    int place = 0;
    while (place < count - 1 && ends[place] <= uniform * ends[count - 1]) ++place;
    return kept[place];
}

}  // namespace
