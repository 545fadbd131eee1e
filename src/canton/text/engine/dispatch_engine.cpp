// The engine's exported functions. An engine keeps the instruction set that was selected when it was opened.
#include "abi_check.h"
#include "frequencies.h"
#include "instruction_set.h"
#include "ngram.h"

struct Entries {
    void* (*open)(const EngineModel&);
    void (*close)(void*);
    int64_t (*generate)(void*, EngineCall&);
};

struct ExactEntries {
    void* (*open)(const EngineModel&);
    void (*close)(void*);
    int64_t (*predict)(void*, EngineCall&, const uint8_t*, int32_t*);
};

struct OpenExactEngine {
    const ExactEntries* entries;
    void* engine;
};

struct OpenEngine {
    const Entries* entries;
    void* engine;
};

#define ENTRIES(isa)                                   \
    void* engine_open_##isa(const EngineModel&);       \
    void engine_close_##isa(void*);                    \
    int64_t engine_generate_##isa(void*, EngineCall&); \
    static const Entries entries_##isa = {engine_open_##isa, engine_close_##isa, engine_generate_##isa};          \
    void* exact_engine_open_##isa(const EngineModel&);                                                            \
    void exact_engine_close_##isa(void*);                                                                         \
    int64_t exact_engine_predict_##isa(void*, EngineCall&, const uint8_t*, int32_t*);                             \
    static const ExactEntries exact_entries_##isa = {exact_engine_open_##isa, exact_engine_close_##isa,           \
                                                     exact_engine_predict_##isa};

extern "C" {
ENTRIES(portable)
#if defined(CANTON_X86)
ENTRIES(avx2)
ENTRIES(avx512)
static const Entries* const entries_of[] = {&entries_portable, &entries_avx2, &entries_avx512};
static const ExactEntries* const exact_entries_of[] = {&exact_entries_portable, &exact_entries_avx2, &exact_entries_avx512};
#else
static const Entries* const entries_of[] = {&entries_portable};
static const ExactEntries* const exact_entries_of[] = {&exact_entries_portable};
#endif

EXPORT void* canton_engine_open(const EngineModel* model) {
    const Entries* entries = entries_of[canton_isa()];
    return new OpenEngine{entries, entries->open(*model)};
}
EXPORT void canton_engine_close(void* handle) {
    OpenEngine* open = static_cast<OpenEngine*>(handle);
    open->entries->close(open->engine);
    delete open;
}
EXPORT int64_t canton_engine_generate(void* handle, EngineCall* call) {
    OpenEngine* open = static_cast<OpenEngine*>(handle);
    return open->entries->generate(open->engine, *call);
}

// An engine whose results are the same for all instruction sets and machines, see exact_engine.cpp.
EXPORT void* canton_exact_engine_open(const EngineModel* model) {
    const ExactEntries* entries = exact_entries_of[canton_isa()];
    return new OpenExactEngine{entries, entries->open(*model)};
}
EXPORT void canton_exact_engine_close(void* handle) {
    OpenExactEngine* open = static_cast<OpenExactEngine*>(handle);
    open->entries->close(open->engine);
    delete open;
}
// Of `call` it uses logits, state, past and count. text (count,), out (count, 256).
EXPORT int64_t canton_exact_engine_predict(void* handle, EngineCall* call, const uint8_t* text, int32_t* out) {
    OpenExactEngine* open = static_cast<OpenExactEngine*>(handle);
    return open->entries->predict(open->engine, *call, text, out);
}

// For tests of the hash: keys, or with rows > 0 table rows, of the n-grams that end at bytes [lookback, lookback + count).
EXPORT void canton_ngram_keys(const uint8_t* bytes, int64_t lookback, int64_t count, const EngineKey* key, int64_t rows,
                              int64_t* out) {
    for (int64_t k = 0; k < count; ++k)
        out[k] = rows ? hash_row(bytes + lookback + k, key->n, rows) : ngram_key(*key, bytes + lookback + k);
}

EXPORT const AbiField* canton_engine_fields() {
    static const AbiField table[] = {
        ABI_SIZE(EngineLayer), ABI_FIELD(EngineLayer, hidden), ABI_FIELD(EngineLayer, input),
        ABI_FIELD(EngineLayer, bias), ABI_FIELD(EngineLayer, gates), ABI_FIELD(EngineLayer, candidate),
        ABI_SIZE(EngineKey), ABI_FIELD(EngineKey, n), ABI_FIELD(EngineKey, words),
        ABI_SIZE(EngineTable), ABI_FIELD(EngineTable, key), ABI_FIELD(EngineTable, rows), ABI_FIELD(EngineTable, keys),
        ABI_FIELD(EngineTable, followers), ABI_FIELD(EngineTable, counts), ABI_FIELD(EngineTable, totals),
        ABI_SIZE(EngineMixer), ABI_FIELD(EngineMixer, tables), ABI_FIELD(EngineMixer, weight),
        ABI_FIELD(EngineMixer, gate), ABI_FIELD(EngineMixer, gate_bias),
        ABI_SIZE(EngineModel), ABI_FIELD(EngineModel, layers), ABI_FIELD(EngineModel, embedding),
        ABI_FIELD(EngineModel, contexts), ABI_FIELD(EngineModel, skip), ABI_FIELD(EngineModel, head_size),
        ABI_FIELD(EngineModel, int8), ABI_FIELD(EngineModel, context_bytes), ABI_FIELD(EngineModel, context_rows),
        ABI_FIELD(EngineModel, context), ABI_FIELD(EngineModel, embed), ABI_FIELD(EngineModel, norm_weight),
        ABI_FIELD(EngineModel, norm_bias), ABI_FIELD(EngineModel, norm_eps), ABI_FIELD(EngineModel, head),
        ABI_FIELD(EngineModel, head_bias), ABI_FIELD(EngineModel, logits), ABI_FIELD(EngineModel, logits_bias),
        ABI_FIELD(EngineModel, layer), ABI_FIELD(EngineModel, lookback), ABI_FIELD(EngineModel, history_size),
        ABI_FIELD(EngineModel, count_edges_size), ABI_FIELD(EngineModel, total_edges_size),
        ABI_FIELD(EngineModel, count_edges), ABI_FIELD(EngineModel, total_edges), ABI_FIELD(EngineModel, counts_mixer),
        ABI_FIELD(EngineModel, history_mixer), ABI_FIELD(EngineModel, table), ABI_FIELD(EngineModel, history_key),
        ABI_SIZE(EngineCall), ABI_FIELD(EngineCall, logits), ABI_FIELD(EngineCall, state), ABI_FIELD(EngineCall, past),
        ABI_FIELD(EngineCall, out), ABI_FIELD(EngineCall, bits), ABI_FIELD(EngineCall, uniforms),
        ABI_FIELD(EngineCall, count), ABI_FIELD(EngineCall, temperature), ABI_FIELD(EngineCall, top_p),
        ABI_FIELD(EngineCall, min_p), ABI_FIELD(EngineCall, repetition_penalty), ABI_FIELD(EngineCall, logit_bias),
        ABI_FIELD(EngineCall, recent), ABI_FIELD(EngineCall, recent_size), ABI_FIELD(EngineCall, repetition_window),
        ABI_FIELD(EngineCall, top_k),
        ABI_FIELD(EngineCall, utf8_state), ABI_FIELD(EngineCall, remaining), ABI_FIELD(EngineCall, utf8_next),
        ABI_FIELD(EngineCall, utf8_fits),
        {},
    };
    return table;
}

EXPORT const AbiConstant* canton_engine_constants() {
    static const AbiConstant table[] = {
        ABI_CONSTANT(FREQUENCY_BITS),
        ABI_CONSTANT(MAX_FOLLOWERS),
        ABI_CONSTANT(WORD_LOOKBACK),
        ABI_CONSTANT(MAX_WORDS),
        ABI_CONSTANT(MAX_BYTES),
        ABI_CONSTANT(HASH_SHIFT_1),
        ABI_CONSTANT(HASH_SHIFT_2),
        ABI_CONSTANT(HASH_MASK),
        ABI_CONSTANT(HASH_PRIME),
        ABI_CONSTANT(HASH_MULTIPLIER),
        {},
    };
    return table;
}
}
