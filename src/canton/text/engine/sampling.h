// The byte on which a uniform number falls: the twin of canton.text's `draw`.
#pragma once
#include "simd.h"
#include "engine_abi.h"

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
    const int8_t* next = run.character < 0 ? nullptr : run.next + run.character * 256;
    const uint8_t* fits = nullptr;
    if (next) {
        fits = run.fits + ((room < 4 ? room - 1 : 3) * 8 + run.character) * 256;
        bool any = false;
        for (int i = 0; i < 256; ++i) any |= fits[i] != 0;
        if (!any) fits = nullptr;
    }
    const float lowest = -__builtin_inff();
    alignas(64) float score[256], chance[256];
    memcpy(score, run.scores, sizeof score);
    for (int i = 0; i < 256 && next; ++i)
        if (fits ? fits[i] == 0 : next[i] < 0) score[i] = lowest;
    V peak = all(lowest), sound{};
    for (int i = 0; i < 256; i += W) {
        const V s = load(score + i), given = load(run.scores + i);
        peak = s > peak ? s : peak;
        sound += given - given;  // not 0 as soon as a score is no finite number
    }
    float top = lowest, worth = 0;
    for (int i = 0; i < W; ++i) top = peak[i] > top ? peak[i] : top, worth += sound[i];
    if (worth != 0) return -1;
    int best = 0;
    while (best < 255 && score[best] != top) ++best;
    if (run.temperature == 0 || top == lowest) return top == lowest ? -1 : best;

    const float by = float(1 / run.temperature);
    for (int i = 0; i < 256; i += W) {
        const V s = load(score + i);
        store(chance + i, s == all(lowest) ? V{} : exponential((s - top) * by));
    }
    if (run.top_k == 0 && run.top_p >= 1) {  // nothing to sort: the bytes as they come
        double ends[16], total = 0;          // of sixteen bytes each
        for (int i = 0; i < 16; ++i) {
            double sum = 0;
            for (int k = 0; k < 16; ++k) sum += chance[16 * i + k];
            ends[i] = sum;
        }
        for (int i = 0; i < 16; ++i) ends[i] = total += ends[i];
        int block = 0, byte = best;
        while (block < 15 && ends[block] <= uniform * total) ++block;
        double sum = block ? ends[block - 1] : 0;
        for (int i = 16 * block; i < 16 * block + 16 && sum <= uniform * total; ++i)
            if (chance[i] > 0) sum += chance[i], byte = i;
        return byte;
    }
    Likeliest left;
    left.score = score;
    for (int i = 0; i < 256; ++i)
        if (score[i] != lowest) left.heap[left.size++] = i;
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
