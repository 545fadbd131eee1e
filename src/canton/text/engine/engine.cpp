// A byte model that writes: from a byte to the scores of the next, with no Python in between.
#include <math.h>

#include "company.h"
#include "sampling.h"
#include "padded_image.h"
#include "gemv.h"
#include "thread_pool.h"
#include "history.h"

namespace {

constexpr int64_t LEAST_SHARED = 1 << 16;  // recurrent weights from which on two threads may gain

struct Writer {
    struct Layer {
        int64_t hidden = 0, in = 0, padded = 0;
        Matrix input, gates, candidate;
        float* bias = nullptr;
        const float* rows = nullptr;  // for plain bytes
    };
    // What each thread writes for itself; all of them compute what is too small to be divided.
    struct Desk {
        float *x, *in, *heard, *wide;
        int16_t* space;
    };
    static constexpr int64_t MOST_HANDS = 4;
    WriterModel model;  // its arrays are Python's, which keeps them; what is packed is our own
    Layer layer[MOST_LAYERS];
    Matrix narrow, logits;
    int64_t seen = 0, reach = 0, weights = 0;
    Memory memory;
    Desk desk[MOST_HANDS];
    float *gx, *hh, *rh, *fresh, *out;  // everybody's, each thread writes its own part
    int byte = 0;                       // the one just drawn
    int64_t shared_ns = 0;              // that the last piece took once all threads were there
    Recent recent;
    Company company;

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
            weights += 3 * to.hidden * to.hidden;
        }
        const Layer& last = layer[m.layers - 1];
        for (int64_t k = 0; k < m.layers; ++k) seen += layer[k].hidden;
        seen = m.skip ? seen + E : last.hidden;
        if (m.narrow) narrow.pack(m.narrow, 1, m.narrow_width, seen, false);
        logits.pack(m.logits, 1, 256, m.narrow ? m.narrow_width : seen, false);
        reach = m.reach;
        largest = (largest + total + m.narrow_width + 256 + 4 * W) / 16 * 16 + 16;
        const auto floats = [&](int64_t n) { return static_cast<float*>(memset(memory.floats(n), 0, size_t(n) * 4)); };
        for (float** each : {&gx, &hh, &rh, &fresh, &out}) *each = floats(largest);
        for (Desk& d : desk) {
            float* all = floats(5 * largest);
            d = {all, all + largest, all + 2 * largest, all + 3 * largest, reinterpret_cast<int16_t*>(all + 4 * largest)};
        }
    }

    // The row of a table for the `n` bytes ending with window[end]; canton.text's `_hashed`.
    static int64_t hashed(const uint8_t* window, int64_t end, int64_t n, int64_t rows) {
        uint64_t value = 0;
        for (int64_t k = end - n + 1; k <= end; ++k) value = (value * 0x01000193u + window[k] + 1) & 0xFFFFFFFFu;
        value = ((value ^ (value >> 15)) * 0x2C1B3C6Du) & 0xFFFFFFFFu;
        return int64_t((value ^ (value >> 13)) % uint64_t(rows));
    }

    void embed(const uint8_t* window, float* x) const {
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

    void step(const Layer& l, const WriterLayer& from, float* state, Desk& d, const Team& team) {
        const int64_t H = l.hidden, P = l.padded;
        const float* in = gx;
        int64_t gate_step = P;
        if (l.rows) {
            in = l.rows + byte * 3 * H, gate_step = H;
        } else {
            const Range own = l.input.times(d.in, gx, d.space, team);
            for (int64_t i = own.first; i < own.last && from.bias; ++i)
                if (i % P < H) gx[i] += from.bias[i / P * H + i % P];
            team.wait();
        }
        const Range own = l.gates.times(state, hh, d.space, team);
        for (int64_t i = own.first; i < own.last; i += W) {
            const int64_t column = i % P;
            const int n = int(H - column < W ? H - column : W);
            V gate = sigmoid(load(in + i / P * gate_step + column, n) + load(hh + i));
            if (i < P) store(hh + i, gate);
            else store(rh + column, gate * load(state + column, n));
        }
        team.wait();
        const Range mine = l.candidate.times(rh, fresh, d.space, team);
        for (int64_t i = mine.first; i < mine.last; i += W) {
            const int n = int(H - i < W ? H - i : W);
            V z = load(hh + i), c = tanh(load(in + 2 * gate_step + i, n) + load(fresh + i));
            store(state + i, (1.0f - z) * load(state + i, n) + z * c, n);
        }
        team.wait();
    }

    // Reads window[reach], the byte just written, after the `reach` bytes before it; `known`: see Recent::read.
    void read(const uint8_t* window, const Known* known, float* state, float* scores, const Team& team) {
        const int64_t E = model.embedding;
        Desk& d = desk[team.index];
        if (E) embed(window, d.x);
        int64_t place = 0;
        for (int64_t k = 0; k < model.layers; ++k) {
            const Layer& l = layer[k];
            if (k == 0) {
                memcpy(d.in, d.x, size_t(E) * 4);
            } else {
                const int64_t under = layer[k - 1].hidden;
                memcpy(d.in, state - under, size_t(under) * 4);
                if (model.skip) memcpy(d.in + under, d.x, size_t(E) * 4);
            }
            step(l, model.layer[k], state, d, team);
            if (!model.skip) place = 0;
            memcpy(d.heard + place, state, size_t(l.hidden) * 4);
            place += l.hidden;
            state += l.hidden;
        }
        if (model.skip) memcpy(d.heard + place, d.x, size_t(E) * 4);
        const float* from = d.heard;
        if (model.narrow) {
            narrow.times(d.heard, d.wide, d.space);
            for (int64_t i = 0; i < model.narrow_width; ++i) d.wide[i] += model.narrow_bias[i];
            for (int64_t i = 0; i < model.narrow_width; i += W) {
                V a = load(d.wide + i);
                store(d.wide + i, a > 0.0f ? a : exponential(a) - 1.0f);
            }
            from = d.wide;
        }
        const Range own = logits.times(from, out, d.space, team);
        for (int64_t i = own.first; i < own.last; i += W) store(scores + i, load(out + i) + load(model.logits_bias + i));
        team.wait();
        if (team.index) return;
        Known counted[MOST_TABLES];
        for (int64_t k = 0; k < model.counts.tables; ++k) counted[k] = look_up(model.table[k], window + reach);
        vote(model, model.counts, counted, d.heard, seen, scores);
        vote(model, model.recent, known, d.heard, seen, scores);
    }

    // A thread's part in writing the bytes [start, end); the first thread draws them.
    void write(WriterRun& run, int64_t start, int64_t end, const Team& team) {
        Known known[MOST_TABLES];
        int64_t began = 0;
        for (int64_t k = start; k < end; ++k) {
            if (team.index == 0) {
                byte = draw(run, run.uniforms[k], run.room - k);
                if (byte >= 0) {
                    run.out[k] = uint8_t(byte), run.written = k + 1;
                    if (run.character >= 0) run.character = run.next[run.character * 256 + byte];
                    recent.read(model, uint8_t(byte), known);
                }
            }
            team.wait();
            if (byte < 0) return;
            if (k == start) began = nanoseconds();  // by now all are here
            read(recent.end() - 1 - reach, known, run.state, run.scores, team);
        }
        if (team.index == 0) shared_ns = nanoseconds() - began;
    }

    // Writes run.count bytes; returns how many, fewer if the scores ceased to be numbers.
    int64_t write(WriterRun& run) {
        struct Context {
            Writer* writer;
            WriterRun* run;
            int64_t start, end;
        } context{this, &run, 0, 0};
        recent.begin(model, run.past);
        run.written = byte = 0;
        while (run.written < run.count && byte >= 0) {
            const bool shared = run.threads > 1 && weights >= LEAST_SHARED && company.wanted() && canton_free(run.threads);
            const int64_t start = run.written, room = run.count - start, piece = company.piece(shared);
            context.start = start, context.end = start + (run.threads > 1 && piece < room ? piece : room);
            const int64_t began = nanoseconds();
            canton_together(MOST_HANDS, shared ? run.threads : 1, true, &context, [](void* p, const Team& team) {
                Context* c = static_cast<Context*>(p);
                c->writer->write(*c->run, c->start, c->end, team);
            });
            const int64_t count = context.end - start;  // of a trial, how long it took to wake the others says nothing
            company.took(shared, double(count > Company::TRIAL ? nanoseconds() - began : shared_ns) / double(count));
        }
        memcpy(run.past, recent.end() - reach - model.memory, size_t(reach + model.memory));
        return run.written;
    }
};

}  // namespace

extern "C" {
void* CANTON_NAME(writer_open)(const WriterModel& model) { return new Writer(model); }
void CANTON_NAME(writer_close)(void* writer) { delete static_cast<Writer*>(writer); }
int64_t CANTON_NAME(writer_write)(void* writer, WriterRun& run) { return static_cast<Writer*>(writer)->write(run); }
}
