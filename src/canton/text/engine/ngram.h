// N-gram keys, tables and mixer, as in canton.text.ngram.
#pragma once
#include "engine_abi.h"
#include "ngram_constants.h"
#include "simd.h"

namespace {

inline uint64_t finalize_hash(uint64_t value) {
    value = ((value ^ (value >> HASH_SHIFT_1)) * HASH_MULTIPLIER) & HASH_MASK;
    return value ^ (value >> HASH_SHIFT_2);
}

// The table row of the `n` bytes that end at `last`.
inline int64_t hash_row(const uint8_t* last, int64_t n, int64_t rows) {
    uint64_t value = 0;
    for (int64_t k = 1 - n; k <= 0; ++k) value = (value * HASH_PRIME + last[k] + 1) & HASH_MASK;
    return int64_t(finalize_hash(value) % uint64_t(rows));
}

inline int64_t byte_key(const uint8_t* last, int64_t n) {
    int64_t value = 0;
    for (int64_t k = 1 - n; k <= 0; ++k) value = value << 8 | last[k];
    return value;
}

inline int64_t word_key(const uint8_t* last, int64_t n) {
    uint64_t current = 0, previous[MAX_WORDS] = {};
    bool inside = false;
    for (int k = -WORD_LOOKBACK; k <= 0; ++k) {
        const uint8_t byte = last[k] >= 'A' && last[k] <= 'Z' ? last[k] + 32 : last[k];
        inside = (byte >= 'a' && byte <= 'z') || byte >= 128 || (byte >= '0' && byte <= '9') || byte == '\'';
        if (inside) {
            current = (current * HASH_PRIME + byte + 1) & HASH_MASK;
        } else if (current) {
            for (int64_t j = n - 1; j > 0; --j) previous[j] = previous[j - 1];
            previous[0] = current, current = 0;
        }
    }
    uint64_t value = (finalize_hash(current) * HASH_PRIME + (inside ? 0 : *last + 1)) & HASH_MASK;
    for (int64_t j = 0; j < n; ++j) value = (finalize_hash(value) * HASH_PRIME + previous[j]) & HASH_MASK;
    return int64_t(finalize_hash(value));
}

inline int64_t ngram_key(const EngineKey& key, const uint8_t* last) {
    return key.words ? word_key(last, key.n) : byte_key(last, key.n);
}

// One table's statistics at a position: MAX_FOLLOWERS followers with their counts or ranks. total 0: no entry.
struct NgramStats {
    const uint8_t* followers;
    const int32_t* counts;
    int32_t total;
};

inline NgramStats look_up(const EngineTable& table, const uint8_t* last) {
    const int64_t key = ngram_key(table.key, last);
    int64_t row = 0;
    for (int64_t left = table.rows; left > 0;) {
        const int64_t half = left / 2;
        if (table.keys[row + half] < key) row += half + 1, left -= half + 1;
        else left = half;
    }
    if (row == table.rows || table.keys[row] != key) return {nullptr, nullptr, 0};
    return {table.followers + row * MAX_FOLLOWERS, table.counts + row * MAX_FOLLOWERS, table.totals[row]};
}

// The number of ascending edges that are <= value.
inline int64_t bucket(const int32_t* edges, int64_t count, int32_t value) {
    int64_t reached = 0;
    while (reached < count && edges[reached] <= value) ++reached;
    return reached;
}

// Adds the scores of the mixer's tables to `logits`; gates (tables,) are without their bias.
inline void mix(const EngineModel& m, const EngineMixer& mixer, const NgramStats* stats, const float* gates, float* logits) {
    int64_t found = 0;
    for (int64_t k = 0; k < mixer.tables; ++k) found += stats[k].total > 0;
    for (int64_t k = 0; k < mixer.tables; ++k) {
        if (stats[k].total <= 0) continue;
        const float gate = 2.0f * sigmoid(all(gates[k] + mixer.gate_bias[k]))[0];
        const int64_t total = bucket(m.total_edges, m.total_edges_size, stats[k].total);
        const int64_t row = (k * (mixer.tables + 1) + found) * (m.total_edges_size + 1) + total;
        const float* weight = mixer.weight + row * (m.count_edges_size + 1);
        for (int s = 0; s < MAX_FOLLOWERS; ++s)
            if (const int32_t count = stats[k].counts[s])
                logits[stats[k].followers[s]] += gate * weight[bucket(m.count_edges, m.count_edges_size, count)];
    }
}

}  // namespace
