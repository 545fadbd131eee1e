// Earlier occurrences of the current n-grams in the text itself, as canton.text.ngram.history finds them.
#pragma once
#include "buffer.h"
#include "ngram.h"

namespace {

// The text so far and, for each key, a hash table of the position where each value of the key last ended, with a link from
// every position to the one before it.
class NgramHistory {
public:
    // Starts after `past`, reach + memory bytes. Does nothing if the text already ends with them.
    void begin(const EngineModel& m, const uint8_t* past) {
        const int64_t carried = m.reach + m.memory;
        if (capacity && size >= carried && !memcmp(end() - carried, past, size_t(carried))) return;
        if (!capacity) {
            capacity = carried + (m.memory > 64 ? m.memory : 64);
            slots = 1;
            while (slots < 2 * (capacity - m.reach)) slots *= 2;
            text.allocate(capacity), kept.allocate(carried);
            for (int64_t k = 0; k < m.history_mixer.tables; ++k) {
                index[k].key.allocate(slots), index[k].last.allocate(slots), index[k].previous.allocate(capacity);
            }
        }
        rebuild(m, past);
    }

    // Appends `byte` and writes each key's evidence for the byte after it.
    void append(const EngineModel& m, uint8_t byte, Evidence* evidence) {
        if (size == capacity) {
            const size_t carried = size_t(m.reach + m.memory);
            memcpy(kept.data, end() - carried, carried);
            rebuild(m, kept.data);
        }
        text.data[size++] = byte;
        for (int64_t k = 0; k < m.history_mixer.tables; ++k) evidence[k] = collect(m, index[k], insert(m, k, size - 1));
    }

    const uint8_t* end() const { return text.data + size; }

private:
    struct Index {
        Buffer<int64_t> key;
        Buffer<int32_t> last, previous;  // positions by slot and by position; -1: none
        uint8_t followers[SLOTS];
        int32_t ranks[SLOTS];
    };
    Buffer<uint8_t> text, kept;
    int64_t size = 0, capacity = 0, slots = 0;
    Index index[MAX_TABLES];

    void rebuild(const EngineModel& m, const uint8_t* past) {
        size = m.reach + m.memory;
        memcpy(text.data, past, size_t(size));
        for (int64_t k = 0; k < m.history_mixer.tables; ++k) {
            memset(index[k].last.data, -1, size_t(slots) * sizeof(int32_t));
            for (int64_t position = m.reach; position < size; ++position) insert(m, k, position);
        }
    }

    // Records that an n-gram ends at `position`; returns the position where it ended before, or -1.
    int32_t insert(const EngineModel& m, int64_t k, int64_t position) {
        Index& at = index[k];
        const int64_t key = ngram_key(m.history_key[k], text.data + position);
        int64_t slot = int64_t(uint64_t(key) * 0x9E3779B97F4A7C15u >> 20) & (slots - 1);  // Fibonacci hashing
        while (at.last.data[slot] >= 0 && at.key.data[slot] != key) slot = (slot + 1) & (slots - 1);
        const int32_t previous = at.last.data[slot];
        at.key.data[slot] = key, at.last.data[slot] = int32_t(position);
        return at.previous.data[position] = previous;
    }

    // The bytes that followed the n-gram at `position` and before, the latest first, within the last `memory` bytes.
    Evidence collect(const EngineModel& m, Index& at, int32_t position) {
        int32_t total = 0;
        memset(at.ranks, 0, sizeof at.ranks);
        for (; total < SLOTS && position >= 0 && size - 1 - position <= m.memory; position = at.previous.data[position]) {
            at.followers[total] = text.data[position + 1];
            at.ranks[total] = total + 1;
            ++total;
        }
        return {at.followers, at.ranks, total};
    }
};

}  // namespace
