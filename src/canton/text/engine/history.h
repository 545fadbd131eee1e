// Search for earlier occurrences of the current n-grams in the text, as in canton.text.ngram.history.
#pragma once
#include "buffer.h"
#include "ngram.h"

namespace {

// The text so far and, for each key, a hash table from the key's value to its last position, with a link from every position
// to the previous one.
class NgramHistory {
public:
    // Starts after `past`, lookback + history_size bytes. Does nothing if the text already ends with them.
    void begin(const EngineModel& m, const uint8_t* past) {
        const int64_t past_size = m.lookback + m.history_size;
        if (capacity && size >= past_size && !memcmp(end() - past_size, past, size_t(past_size))) return;
        if (!capacity) {
            capacity = past_size + (m.history_size > 64 ? m.history_size : 64);
            slots = 1;
            while (slots < 2 * (capacity - m.lookback)) slots *= 2;
            text.allocate(capacity), past_copy.allocate(past_size);
            for (int64_t k = 0; k < m.history_mixer.tables; ++k) {
                index[k].key.allocate(slots), index[k].last.allocate(slots), index[k].previous.allocate(capacity);
            }
        }
        rebuild(m, past);
    }

    // Appends `byte` and writes each key's statistics of the byte after it.
    void append(const EngineModel& m, uint8_t byte, NgramStats* stats) {
        if (size == capacity) {
            const size_t past_size = size_t(m.lookback + m.history_size);
            memcpy(past_copy.data, end() - past_size, past_size);
            rebuild(m, past_copy.data);
        }
        text.data[size++] = byte;
        for (int64_t k = 0; k < m.history_mixer.tables; ++k) stats[k] = collect(m, index[k], insert(m, k, size - 1));
    }

    const uint8_t* end() const { return text.data + size; }

private:
    struct Index {
        Buffer<int64_t> key;
        Buffer<int32_t> last, previous;  // positions by slot and by position; -1: none
        uint8_t followers[MAX_FOLLOWERS];
        int32_t ranks[MAX_FOLLOWERS];
    };
    Buffer<uint8_t> text, past_copy;
    int64_t size = 0, capacity = 0, slots = 0;
    Index index[MAX_TABLES];

    void rebuild(const EngineModel& m, const uint8_t* past) {
        size = m.lookback + m.history_size;
        memcpy(text.data, past, size_t(size));
        for (int64_t k = 0; k < m.history_mixer.tables; ++k) {
            memset(index[k].last.data, -1, size_t(slots) * sizeof(int32_t));
            for (int64_t position = m.lookback; position < size; ++position) insert(m, k, position);
        }
    }

    // Records that an n-gram ends at `position`; returns its previous position, or -1.
    int32_t insert(const EngineModel& m, int64_t k, int64_t position) {
        Index& at = index[k];
        const int64_t key = ngram_key(m.history_key[k], text.data + position);
        int64_t slot = int64_t(uint64_t(key) * 0x9E3779B97F4A7C15u >> 20) & (slots - 1);  // Fibonacci hashing
        while (at.last.data[slot] >= 0 && at.key.data[slot] != key) slot = (slot + 1) & (slots - 1);
        const int32_t previous = at.last.data[slot];
        at.key.data[slot] = key, at.last.data[slot] = int32_t(position);
        return at.previous.data[position] = previous;
    }

    // Returns the bytes that followed the n-gram at `position` and earlier, the latest first, within the last history_size bytes.
    NgramStats collect(const EngineModel& m, Index& at, int32_t position) {
        int32_t total = 0;
        memset(at.ranks, 0, sizeof at.ranks);
        for (; total < MAX_FOLLOWERS && position >= 0 && size - 1 - position <= m.history_size; position = at.previous.data[position]) {
            at.followers[total] = text.data[position + 1];
            at.ranks[total] = total + 1;
            ++total;
        }
        return {at.followers, at.ranks, total};
    }
};

}  // namespace
