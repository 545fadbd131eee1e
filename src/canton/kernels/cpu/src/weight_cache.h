// Weights that were packed before: one frame of a stream must not pay for packing what the frame before it packed.
//
// A packing is found by where its weight lies and used only if the weight still holds, float for float, what was packed:
// whoever changed it, an optimiser or anything that torch's version counters do not see, gets a new packing. Comparing
// costs a hundredth of packing.
#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void canton_lock();  // in pool.cpp, which is compiled once: nothing of the standard library may be compiled here
void canton_unlock();

namespace {

struct Packing {
    const float* from;
    int64_t shape[6];  // gates, each, channels, taps, transposed, floats when packed
    float *raw, *data;
    int64_t users;
    bool kept;

    int64_t weight() const { return shape[0] * shape[1] * shape[2] * shape[3]; }
    bool holds(const float* weight_, const int64_t* shape_) const {
        return from == weight_ && !memcmp(shape, shape_, sizeof shape) && !memcmp(raw, weight_, size_t(weight()) * 4);
    }
};

constexpr int KEPT = 32;
constexpr int64_t MOST_KEPT = 1 << 17;  // floats of a weight
Packing* kept[KEPT];
int oldest = 0;

void destroy(Packing* p) {
    free(p->raw), free(p->data), free(p);
}

// The packing of `weight`, found or empty: `made` says which; an empty one is filled by the caller, then `keep`.
Packing* packing(const float* weight, const int64_t (&shape)[6], bool& made) {
    canton_lock();
    for (Packing* p : kept)
        if (p && p->holds(weight, shape)) {
            ++p->users;
            canton_unlock();
            made = false;
            return p;
        }
    canton_unlock();
    made = true;
    Packing* p = static_cast<Packing*>(calloc(1, sizeof(Packing)));
    void* data = nullptr;
    if (!p || posix_memalign(&data, 64, size_t(shape[5]) * 4 + 64)) abort();
    p->data = static_cast<float*>(memset(data, 0, size_t(shape[5]) * 4));
    p->from = weight, p->users = 1;
    memcpy(p->shape, shape, sizeof shape);
    return p;
}

void keep(Packing* p) {
    const size_t size = size_t(p->weight()) * 4;
    if (p->weight() > MOST_KEPT || !(p->raw = static_cast<float*>(malloc(size)))) return;
    memcpy(p->raw, p->from, size);
    canton_lock();
    int place = -1;
    for (int i = 0; i < KEPT && place < 0; ++i)  // a weight that has changed gives up its place
        if (kept[i] && kept[i]->from == p->from && !kept[i]->users && !memcmp(kept[i]->shape, p->shape, sizeof p->shape))
            place = i;
    for (int i = 0; i < KEPT && place < 0; ++i)
        if (int at = (oldest + i) % KEPT; !kept[at] || !kept[at]->users) place = at, oldest = at + 1;
    if (place >= 0) {
        if (kept[place]) destroy(kept[place]);
        kept[place] = p, p->kept = true;
    }
    canton_unlock();
}

void release(Packing* p) {
    if (!p) return;
    canton_lock();
    const bool last = --p->users == 0 && !p->kept;
    canton_unlock();
    if (last) destroy(p);
}

}  // namespace
