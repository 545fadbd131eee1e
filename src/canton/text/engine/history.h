// What followed the same run a little earlier in the text that is being written: canton.text's recent.py.
#pragma once
#include <string.h>

#include <vector>

#include "ngram.h"

namespace {

// The text so far and, for each kind of run, where each run last ended and where before that.
class Recent {
   public:
    // `past`, reach + memory bytes, is what was read; nothing is done if it is what stands here already.
    void begin(const WriterModel& m, const uint8_t* past) {
        const int64_t carried = m.reach + m.memory;
        if (size >= carried && !text.empty() && !memcmp(text.data() + size - carried, past, size_t(carried))) return;
        if (text.empty()) {
            room = carried + (m.memory > 64 ? m.memory : 64);
            text.resize(size_t(room));
            slots = 1;
            while (slots < 2 * (room - m.reach)) slots *= 2;
            for (int64_t k = 0; k < m.recent.tables; ++k) {
                of[k].key.resize(size_t(slots)), of[k].last.resize(size_t(slots)), of[k].before.resize(size_t(room));
            }
        }
        start_over(m, past);
    }

    // Reads a byte; `known`, one for each kind, says what followed its runs.
    void read(const WriterModel& m, uint8_t byte, Known* known) {
        if (size == room) {
            std::vector<uint8_t> kept(text.end() - (m.reach + m.memory), text.end());
            start_over(m, kept.data());
        }
        text[size_t(size++)] = byte;
        for (int64_t k = 0; k < m.recent.tables; ++k) known[k] = tell(m, of[k], insert(m, k, size - 1), size - 1);
    }

    const uint8_t* end() const { return text.data() + size; }

   private:
    struct Kind {
        std::vector<int64_t> key;
        std::vector<int32_t> last, before;  // by slot; by place: -1 for none
        uint8_t followers[SLOTS];
        int32_t ranks[SLOTS];
    };
    std::vector<uint8_t> text;
    int64_t size = 0, room = 0, slots = 0;
    Kind of[MOST_TABLES];

    void start_over(const WriterModel& m, const uint8_t* past) {
        size = m.reach + m.memory;
        if (size) memcpy(text.data(), past, size_t(size));
        for (int64_t k = 0; k < m.recent.tables; ++k) {
            std::fill(of[k].last.begin(), of[k].last.end(), -1);
            for (int64_t place = m.reach; place < size; ++place) insert(m, k, place);
        }
    }

    // Notes that a run ends at `place`; where it ended before, or -1.
    int32_t insert(const WriterModel& m, int64_t k, int64_t place) {
        Kind& kind = of[k];
        const int64_t key = run_number(m.kind[k], text.data() + place);
        size_t slot = size_t(uint64_t(key) * 0x9E3779B97F4A7C15u >> 20) & size_t(slots - 1);
        while (kind.last[slot] >= 0 && kind.key[slot] != key) slot = (slot + 1) & size_t(slots - 1);
        const int32_t before = kind.last[slot];
        kind.key[slot] = key, kind.last[slot] = int32_t(place);
        return kind.before[size_t(place)] = before;
    }

    Known tell(const WriterModel& m, Kind& kind, int32_t before, int64_t place) {
        int32_t total = 0;
        memset(kind.ranks, 0, sizeof kind.ranks);
        for (; total < SLOTS && before >= 0 && place - before <= m.memory; before = kind.before[size_t(before)]) {
            kind.followers[total] = text[size_t(before) + 1];
            kind.ranks[total] = total + 1;
            ++total;
        }
        return {kind.followers, kind.ranks, total};
    }
};

}  // namespace
