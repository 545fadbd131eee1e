// What followed the run of bytes, or of words, that ends here: canton.text's runs.py, counts.py, votes.py.
#pragma once
#include <math.h>

#include <algorithm>

#include "engine_abi.h"

namespace {

enum { SLOTS = 8, WORD_REACH = 23 };
const uint64_t WORD = 0xFFFFFFFFu, PRIME = 0x01000193u;

inline uint64_t scrambled(uint64_t value) {
    value = ((value ^ (value >> 15)) * 0x2C1B3C6Du) & WORD;
    return value ^ (value >> 13);
}

inline int64_t byte_run(const uint8_t* last, int64_t n) {
    int64_t value = 0;
    for (int64_t k = 1 - n; k <= 0; ++k) value = value << 8 | last[k];
    return value;
}

inline int64_t word_run(const uint8_t* last, int64_t n) {
    uint64_t under_way = 0, before[4] = {};
    bool inside = false;
    for (int k = -WORD_REACH; k <= 0; ++k) {
        const uint8_t byte = last[k] >= 65 && last[k] <= 90 ? last[k] + 32 : last[k];
        inside = (byte >= 97 && byte <= 122) || byte >= 128 || (byte >= 48 && byte <= 57) || byte == 39;
        if (inside) {
            under_way = (under_way * PRIME + byte + 1) & WORD;
        } else if (under_way) {
            for (int64_t j = n - 1; j > 0; --j) before[j] = before[j - 1];
            if (n) before[0] = under_way;
            under_way = 0;
        }
    }
    uint64_t value = (scrambled(under_way) * PRIME + (inside ? 0 : *last + 1)) & WORD;
    for (int64_t j = 0; j < n; ++j) value = (scrambled(value) * PRIME + before[j]) & WORD;
    return int64_t(scrambled(value));
}

inline int64_t run_number(const WriterKind& kind, const uint8_t* last) {
    return kind.words ? word_run(last, kind.n) : byte_run(last, kind.n);
}

// What one table knows of a place: `SLOTS` followers and how often, or as which from the last; total 0: nothing.
struct Known {
    const uint8_t* followers;
    const int32_t* counts;
    int32_t total;
};

// Which cell of a table a number falls into: how many of the edges it has reached.
inline int64_t step_of(const int32_t* edges, int64_t count, int32_t value) {
    return std::upper_bound(edges, edges + count, value) - edges;
}

inline Known look_up(const WriterTable& t, const uint8_t* last) {
    const int64_t key = run_number(t.kind, last);
    const int64_t* place = std::lower_bound(t.keys, t.keys + t.rows, key);
    if (place == t.keys + t.rows || *place != key) return {nullptr, nullptr, 0};
    const int64_t row = place - t.keys;
    return {t.followers + row * SLOTS, t.counts + row * SLOTS, t.totals[row]};
}

// Adds to `scores` what the tables `known` say; `seen`: what the head saw.
inline void vote(const WriterModel& m, const WriterVotes& v, const Known* known, const float* seen, int64_t width, float* scores) {
    int64_t found = 0;
    for (int64_t k = 0; k < v.tables; ++k) found += known[k].total > 0;
    for (int64_t k = 0; k < v.tables; ++k) {
        if (known[k].total <= 0) continue;
        float gate = v.gate_bias[k];
        for (int64_t i = 0; i < width; ++i) gate += v.gate[k * width + i] * seen[i];
        gate = 2.0f / (1.0f + expf(-gate));
        const int64_t total = step_of(m.total_steps, m.total_count, known[k].total);
        const int64_t at = ((k * (v.tables + 1) + found) * (m.total_count + 1) + total) * (m.count_count + 1);
        for (int s = 0; s < SLOTS; ++s) {
            const int32_t count = known[k].counts[s];
            if (count) scores[known[k].followers[s]] += gate * v.votes[at + step_of(m.count_steps, m.count_count, count)];
        }
    }
}

}  // namespace
