// What Python hands over to write bytes. Field for field as in writer.py; all arrays float32 where not said otherwise.
#pragma once
#include <stdint.h>

enum { MOST_LAYERS = 8, MOST_CONTEXTS = 8 };

// A reset-before GRU layer; weights (out, in). The lowest layer over plain bytes has `input` (256, 3 hidden), a row
// for each byte, its bias added.
struct WriterLayer {
    int64_t hidden;
    const float *input, *bias, *gates, *candidate;
};

struct WriterModel {
    int64_t layers, embedding, contexts, skip, narrow_width, int8;
    int64_t context_bytes[MOST_CONTEXTS], context_rows[MOST_CONTEXTS];
    const float* context[MOST_CONTEXTS];
    const float *embed, *norm_weight, *norm_bias;  // embed null: plain bytes; norm_weight null: no normalisation
    double norm_eps;
    const float *narrow, *narrow_bias, *logits, *logits_bias;
    WriterLayer layer[MOST_LAYERS];
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
