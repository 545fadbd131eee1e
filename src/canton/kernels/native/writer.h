// A byte model that writes: from a byte to the scores of the next, with no Python in between.
#pragma once
#include <math.h>

#include "draw.h"
#include "matvec.h"
#include "recent.h"

namespace {

struct Writer {
    struct Layer {
        int64_t hidden = 0, in = 0, padded = 0;
        Matrix input, gates, candidate;
        float* bias = nullptr;
        const float* rows = nullptr;  // for plain bytes
    };
    WriterModel model;  // its arrays are Python's, which keeps them; what is packed is our own
    Layer layer[MOST_LAYERS];
    Matrix narrow, logits;
    int64_t seen = 0, reach = 0;
    float* floats[9] = {};
    float *x, *in, *gx, *hh, *rh, *h, *heard, *wide, *out;
    int16_t* space;
    Recent recent;

    explicit Writer(const WriterModel& m) : model(m) {
        const int64_t E = m.embedding;
        int64_t below = E, largest = 256 + E, total = 0;
        for (int64_t k = 0; k < m.layers; ++k) {
            const WriterLayer& from = m.layer[k];
            Layer& to = layer[k];
            to.hidden = from.hidden, to.in = below, to.padded = (from.hidden + W - 1) / W * W;
            if (E == 0 && k == 0) {
                to.rows = from.input;
            } else {
                to.input.pack(from.input, 3, to.hidden, below, m.int8 != 0);
            }
            to.gates.pack(from.gates, 2, to.hidden, to.hidden, m.int8 != 0);
            to.candidate.pack(from.candidate, 1, to.hidden, to.hidden, m.int8 != 0);
            below = to.hidden + (m.skip ? E : 0);
            total += to.padded;
            largest += 3 * to.padded;
        }
        const Layer& last = layer[m.layers - 1];
        for (int64_t k = 0; k < m.layers; ++k) seen += layer[k].hidden;
        seen = m.skip ? seen + E : last.hidden;
        if (m.narrow) narrow.pack(m.narrow, 1, m.narrow_width, seen, false);
        logits.pack(m.logits, 1, 256, m.narrow ? m.narrow_width : seen, false);
        reach = m.reach;
        largest = (largest + total + m.narrow_width + 256 + 4 * W) / 16 * 16 + 16;
        float** each[] = {&x, &in, &gx, &hh, &rh, &h, &heard, &wide, &out};
        for (int i = 0; i < 9; ++i) *each[i] = floats[i] = static_cast<float*>(calloc(size_t(largest), 4));
        space = static_cast<int16_t*>(calloc(size_t(2 * largest), 2));
    }
    ~Writer() {
        for (float* p : floats) free(p);
        free(space);
    }

    // The row of a table for the `n` bytes ending with window[end]; canton.text's `_hashed`.
    static int64_t hashed(const uint8_t* window, int64_t end, int64_t n, int64_t rows) {
        uint64_t value = 0;
        for (int64_t k = end - n + 1; k <= end; ++k) value = (value * 0x01000193u + window[k] + 1) & 0xFFFFFFFFu;
        value = ((value ^ (value >> 15)) * 0x2C1B3C6Du) & 0xFFFFFFFFu;
        return int64_t((value ^ (value >> 13)) % uint64_t(rows));
    }

    void embed(const uint8_t* window) {
        const int64_t E = model.embedding;
        memcpy(x, model.embed + window[reach] * E, size_t(E) * 4);
        for (int64_t c = 0; c < model.contexts; ++c) {
            const float* row = model.context[c] + hashed(window, reach, model.context_bytes[c], model.context_rows[c]) * E;
            for (int64_t i = 0; i < E; ++i) x[i] += row[i];
        }
        if (!model.norm_weight) return;
        double mean = 0, square = 0;
        for (int64_t i = 0; i < E; ++i) mean += x[i];
        mean /= double(E);
        for (int64_t i = 0; i < E; ++i) square += (x[i] - mean) * (x[i] - mean);
        const float by = float(1 / sqrt(square / double(E) + model.norm_eps)), middle = float(mean);
        for (int64_t i = 0; i < E; ++i) x[i] = (x[i] - middle) * by * model.norm_weight[i] + model.norm_bias[i];
    }

    void step(const Layer& l, const WriterLayer& from, const uint8_t byte, float* state) {
        const int64_t H = l.hidden, P = l.padded;
        if (l.rows) {
            for (int gate = 0; gate < 3; ++gate)
                memcpy(gx + gate * P, l.rows + byte * 3 * H + gate * H, size_t(H) * 4);
        } else {
            l.input.times(in, gx, space);
            for (int64_t gate = 0; gate < 3 && from.bias; ++gate)
                for (int64_t i = 0; i < H; ++i) gx[gate * P + i] += from.bias[gate * H + i];
        }
        memcpy(h, state, size_t(H) * 4);
        memset(h + H, 0, size_t(P - H) * 4);
        l.gates.times(h, hh, space);
        for (int64_t i = 0; i < P; i += W)
            store(rh + i, sigmoid(load(gx + P + i) + load(hh + P + i)) * load(h + i));
        float* c = wide;
        l.candidate.times(rh, c, space);
        for (int64_t i = 0; i < P; i += W) {
            V z = sigmoid(load(gx + i) + load(hh + i)), past = load(h + i);
            V fresh = tanh(load(gx + 2 * P + i) + load(c + i));
            store(h + i, (1.0f - z) * past + z * fresh);
        }
        memcpy(state, h, size_t(H) * 4);
    }

    // Reads window[reach], the byte just written, after the `reach` bytes before it; `known`: see Recent::read.
    void read(const uint8_t* window, const Known* known, float* state, float* scores) {
        const int64_t E = model.embedding;
        if (E) embed(window);
        int64_t place = 0;
        for (int64_t k = 0; k < model.layers; ++k) {
            const Layer& l = layer[k];
            if (k == 0) {
                memcpy(in, x, size_t(E) * 4);
            } else {
                const int64_t under = layer[k - 1].hidden;
                memcpy(in, state - under, size_t(under) * 4);
                if (model.skip) memcpy(in + under, x, size_t(E) * 4);
            }
            step(l, model.layer[k], window[reach], state);
            if (!model.skip) place = 0;
            memcpy(heard + place, state, size_t(l.hidden) * 4);
            place += l.hidden;
            state += l.hidden;
        }
        if (model.skip) memcpy(heard + place, x, size_t(E) * 4);
        const float* from = heard;
        if (model.narrow) {
            narrow.times(heard, wide, space);
            for (int64_t i = 0; i < model.narrow_width; ++i) wide[i] += model.narrow_bias[i];
            for (int64_t i = 0; i < model.narrow_width; i += W) {
                V a = load(wide + i);
                store(wide + i, a > 0.0f ? a : exponential(a) - 1.0f);
            }
            from = wide;
        }
        logits.times(from, out, space);
        for (int i = 0; i < 256; ++i) scores[i] = out[i] + model.logits_bias[i];
        Known counted[MOST_TABLES];
        for (int64_t k = 0; k < model.counts.tables; ++k) counted[k] = look_up(model.table[k], window + reach);
        vote(model, model.counts, counted, heard, seen, scores);
        vote(model, model.recent, known, heard, seen, scores);
    }

    // Writes run.count bytes; returns how many, fewer if the scores ceased to be numbers.
    int64_t write(WriterRun& run) {
        Known known[MOST_TABLES];
        recent.begin(model, run.past);
        int64_t k = 0;
        for (; k < run.count; ++k) {
            const int byte = draw(run, run.uniforms[k], run.room - k);
            if (byte < 0) break;
            run.out[k] = uint8_t(byte);
            if (run.character >= 0) run.character = run.next[run.character * 256 + byte];
            recent.read(model, uint8_t(byte), known);
            read(recent.end() - 1 - reach, known, run.state, run.scores);
        }
        memcpy(run.past, recent.end() - reach - model.memory, size_t(reach + model.memory));
        return k;
    }
};

}  // namespace
