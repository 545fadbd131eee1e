// What Python hands over to write bytes. Field for field as in writer.py; all arrays float32 where not said otherwise.
#pragma once
#include <stdint.h>

enum { MOST_LAYERS = 8, MOST_CONTEXTS = 8, MOST_TABLES = 12 };

// A reset-before GRU layer; weights (out, in). The lowest layer over plain bytes has `input` (256, 3 hidden), a row
// for each byte, its bias added.
struct WriterLayer {
    int64_t hidden;
    const float *input, *bias, *gates, *candidate;
};

// The rows of one kind of run, keys ascending; followers and counts (rows, 8).
struct WriterTable {
    int64_t n, words, rows;
    const int64_t* keys;
    const uint8_t* followers;
    const int32_t *counts, *totals;
};

struct WriterModel {
    int64_t layers, embedding, contexts, skip, narrow_width, int8;
    int64_t context_bytes[MOST_CONTEXTS], context_rows[MOST_CONTEXTS];
    const float* context[MOST_CONTEXTS];
    const float *embed, *norm_weight, *norm_bias;  // embed null: plain bytes; norm_weight null: no normalisation
    double norm_eps;
    const float *narrow, *narrow_bias, *logits, *logits_bias;
    WriterLayer layer[MOST_LAYERS];
    int64_t reach, tables, count_count, total_count;  // reach: bytes before the last that are looked at
    const int32_t *count_steps, *total_steps;
    const float *votes, *gate, *gate_bias;
    WriterTable table[MOST_TABLES];
};

struct WriterRun {
    float *scores, *state;  // (256,) logits of the next byte; every layer's state one after the other
    uint8_t *past, *out;    // the bytes the longest context still needs; the bytes written
    const double* uniforms;
    int64_t count;
    double temperature, top_p;
    int64_t top_k, character, room;  // character: state of the UTF-8 automaton, -1 for any bytes
    const int8_t* next;              // (8, 256): the automaton
    const uint8_t* fits;             // (4, 8, 256): which bytes leave room for the rest of their character
};
