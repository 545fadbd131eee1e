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

// What a place is known by: its last `n` bytes or, with `words`, the word under way and `n` before it.
struct WriterKind {
    int64_t n, words;
};

// The rows of one kind of run, keys ascending; followers and counts (rows, 8).
struct WriterTable {
    WriterKind kind;
    int64_t rows;
    const int64_t* keys;
    const uint8_t* followers;
    const int32_t *counts, *totals;
};

// What the evidence of `tables` tables is worth: canton.text's Votes; gate (tables, in).
struct WriterVotes {
    int64_t tables;
    const float *votes, *gate, *gate_bias;
};

struct WriterModel {
    int64_t layers, embedding, contexts, skip, narrow_width, int8;
    int64_t context_bytes[MOST_CONTEXTS], context_rows[MOST_CONTEXTS];
    const float* context[MOST_CONTEXTS];
    const float *embed, *norm_weight, *norm_bias;  // embed null: plain bytes; norm_weight null: no normalisation
    double norm_eps;
    const float *narrow, *narrow_bias, *logits, *logits_bias;
    WriterLayer layer[MOST_LAYERS];
    int64_t reach, memory, count_count, total_count;  // reach: bytes looked at before the last, and before the memory
    const int32_t *count_steps, *total_steps;
    WriterVotes counts, recent;
    WriterTable table[MOST_TABLES];  // counts'
    WriterKind kind[MOST_TABLES];    // recent's
};

struct WriterRun {
    float *scores, *state;  // (256,) logits of the next byte; every layer's state one after the other
    uint8_t *past, *out;    // the bytes still looked back at, reach + memory; the bytes written
    const double* uniforms;
    int64_t count, threads, written;  // written: how many of `count` there are by now
    double temperature, top_p;
    int64_t top_k, character, room;  // character: state of the UTF-8 automaton, -1 for any bytes
    const int8_t* next;              // (8, 256): the automaton
    const uint8_t* fits;             // (4, 8, 256): which bytes leave room for the rest of their character
};
