// A cache of packed weights, so that a frame of a stream need not pack what the frame before it packed.
//
// An entry is found by its weight's address and used only if the weight still equals, float for float, what was packed. So a
// weight that anything changed is packed again, even if torch's version counters do not know. Comparing takes a hundredth of
// the time of packing.
#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void canton_lock();  // in thread_pool.cpp: std::mutex must not be compiled here
void canton_unlock();

namespace {

struct PackedWeight {
    const float* from;
    int64_t shape[6];  // gates, each, channels, taps, transposed, floats when packed
    float *raw, *data;
    int64_t users;
    bool cached;

    int64_t weight() const { return shape[0] * shape[1] * shape[2] * shape[3]; }
    bool holds(const float* weight_, const int64_t* shape_) const {
        return from == weight_ && !memcmp(shape, shape_, sizeof shape) && !memcmp(raw, weight_, size_t(weight()) * 4);
    }
};

constexpr int CACHE_SIZE = 32;
constexpr int64_t MAX_CACHED_FLOATS = 1 << 17;  // of a weight before packing
PackedWeight* cached[CACHE_SIZE];
int next_evicted = 0;

void destroy(PackedWeight* p) {
    free(p->raw), free(p->data), free(p);
}

// Return the packed `weight`: a cached one, or (created) an empty one that the caller fills and passes to `cache`.
PackedWeight* find_packed(const float* weight, const int64_t (&shape)[6], bool& created) {
    canton_lock();
    for (PackedWeight* p : cached)
        if (p && p->holds(weight, shape)) {
            ++p->users;
            canton_unlock();
            created = false;
            return p;
        }
    canton_unlock();
    created = true;
    PackedWeight* p = static_cast<PackedWeight*>(calloc(1, sizeof(PackedWeight)));
    void* data = nullptr;
    if (!p || posix_memalign(&data, 64, size_t(shape[5]) * 4 + 64)) abort();
    p->data = static_cast<float*>(memset(data, 0, size_t(shape[5]) * 4));
    p->from = weight, p->users = 1;
    memcpy(p->shape, shape, sizeof shape);
    return p;
}

void cache(PackedWeight* p) {
    const size_t size = size_t(p->weight()) * 4;
    if (p->weight() > MAX_CACHED_FLOATS || !(p->raw = static_cast<float*>(malloc(size)))) return;
    memcpy(p->raw, p->from, size);
    canton_lock();
    int slot = -1;
    for (int i = 0; i < CACHE_SIZE && slot < 0; ++i)  // a weight that has changed gives up its slot
        if (cached[i] && cached[i]->from == p->from && !cached[i]->users && !memcmp(cached[i]->shape, p->shape, sizeof p->shape))
            slot = i;
    for (int i = 0; i < CACHE_SIZE && slot < 0; ++i)
        if (int at = (next_evicted + i) % CACHE_SIZE; !cached[at] || !cached[at]->users) slot = at, next_evicted = at + 1;
    if (slot >= 0) {
        if (cached[slot]) destroy(cached[slot]);
        cached[slot] = p, p->cached = true;
    }
    canton_unlock();
}

void release(PackedWeight* p) {
    if (!p) return;
    canton_lock();
    const bool last = --p->users == 0 && !p->cached;
    canton_unlock();
    if (last) destroy(p);
}

}  // namespace
