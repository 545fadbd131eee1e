// The byte generator: alternately samples a byte and runs the model on it. Compiled once for each instruction set.
#include <math.h>

#include "frequencies.h"
#include "gemv.h"
#include "history.h"
#include "sampling.h"

#if defined(CANTON_EXACT)
#define ENGINE_NAME(name) CANTON_NAME(exact_##name)
#else
#define ENGINE_NAME(name) CANTON_NAME(name)
#endif

namespace {

class Engine {
public:
    // Packs the weights. The other arrays of `m` must outlive the engine.
    explicit Engine(const EngineModel& m) : model(m) {
        const int64_t E = m.embedding;
        int64_t below = E, padded = 0;
        for (int64_t k = 0; k < m.layers; ++k) {
            const EngineLayer& from = m.layer[k];
            Layer& to = layer[k];
            to.hidden = from.hidden, to.padded = (from.hidden + W - 1) / W * W;
            if (E == 0 && k == 0) {
                to.byte_rows = from.input;
            } else {
                to.input.pack(from.input, 3, to.hidden, below, m.int8 != 0);
            }
            to.gates.pack(from.gates, 2, to.hidden, to.hidden, m.int8 != 0);
            to.candidate.pack(from.candidate, 1, to.hidden, to.hidden, m.int8 != 0);
            below = to.hidden + (m.skip ? E : 0);
            padded += to.padded;
            head_width = m.skip ? head_width + to.hidden : to.hidden;
        }
        if (m.skip) head_width += E;
        if (m.head) head.pack(m.head, 1, m.head_size, head_width, false);
        logits.pack(m.logits, 1, 256, m.head ? m.head_size : head_width, false);
        if (m.counts_mixer.tables) counts_gate.pack(m.counts_mixer.gate, 1, m.counts_mixer.tables, head_width, false);
        if (m.history_mixer.tables) history_gate.pack(m.history_mixer.gate, 1, m.history_mixer.tables, head_width, false);
        const int64_t most = 256 + E + 4 * padded + m.head_size + 256 + 4 * W, size = (most + 15) / 16 * 16;
        scratch.allocate(10 * size);
        float* next = scratch.data;
        float** const parts[] = {&embedded, &layer_in, &head_in, &head_out, &from_input, &gates, &reset_state, &candidate, &out};
        for (float** part : parts) *part = next, next += size;
        quantized = reinterpret_cast<int16_t*>(next);
    }

    // Generates call.count bytes; returns how many were generated before the logits stopped being finite.
    int64_t generate(EngineCall& call) {
        NgramStats history_stats[MAX_TABLES];
        history.begin(model, call.past);
        RepetitionWindow window(call);
        int64_t count = 0;
        for (; count < call.count; ++count) {
            const int byte = sample(call, call.uniforms[count], call.remaining - count, window.count);
            if (byte < 0) break;
            call.out[count] = uint8_t(byte);
            call.bits[count] = surprisal(call.logits, byte);
            window.append(call, count);
            if (call.utf8_state >= 0) call.utf8_state = call.utf8_next[call.utf8_state * 256 + byte];
            history.append(model, uint8_t(byte), history_stats);
            run_model(history.end() - 1, history_stats, call.state, call.logits);
        }
        const int64_t past_size = model.lookback + model.history_size;
        memcpy(call.past, history.end() - past_size, size_t(past_size));
        return count;
    }

    // Runs the model on call.count bytes of `text`, the first of which follows `past`, and writes the frequencies of the byte after
    // each to `out` (count, 256). Returns the number of bytes before the logits stopped being finite.
    int64_t predict(EngineCall& call, const uint8_t* text, int32_t* out) {
        NgramStats history_stats[MAX_TABLES];
        history.begin(model, call.past);
        int64_t count = 0;
        for (; count < call.count; ++count) {
            history.append(model, text[count], history_stats);
            run_model(history.end() - 1, history_stats, call.state, call.logits);
            if (!frequencies(call.logits, out + 256 * count)) break;
        }
        const int64_t past_size = model.lookback + model.history_size;
        memcpy(call.past, history.end() - past_size, size_t(past_size));
        return count;
    }

private:
    struct Layer {
        int64_t hidden = 0, padded = 0;
        PackedMatrix input, gates, candidate;
        const float* byte_rows = nullptr;  // input of a first layer over plain bytes
    };
    EngineModel model;
    Layer layer[MAX_LAYERS];
    PackedMatrix head, logits, counts_gate, history_gate;
    int64_t head_width = 0;
    NgramHistory history;
    Buffer<float> scratch;
    float *embedded, *layer_in, *head_in, *head_out, *from_input, *gates, *reset_state, *candidate, *out;
    int16_t* quantized;

    // Computes ByteModel._embed of the byte at `last`.
    void embed(const uint8_t* last) const {
        const int64_t E = model.embedding;
        float* x = embedded;
        memcpy(x, model.embed + *last * E, size_t(E) * 4);
        for (int64_t c = 0; c < model.contexts; ++c) {
            const float* row = model.context[c] + hash_row(last, model.context_bytes[c], model.context_rows[c]) * E;
            for (int64_t i = 0; i < E; ++i) x[i] += row[i];
        }
        if (!model.norm_weight) return;
        double mean = 0, square = 0;
        for (int64_t i = 0; i < E; ++i) mean += x[i];
        mean /= double(E);
        for (int64_t i = 0; i < E; ++i) square += (x[i] - mean) * (x[i] - mean);
        const float inverse_sd = float(1 / sqrt(square / double(E) + model.norm_eps)), centre = float(mean);
        for (int64_t i = 0; i < E; ++i) x[i] = (x[i] - centre) * inverse_sd * model.norm_weight[i] + model.norm_bias[i];
    }

    // One GRU step of layer `k` on layer_in, or on `byte` if the layer reads plain bytes.
    void step(int64_t k, uint8_t byte, float* state) {
        const Layer& l = layer[k];
        const int64_t H = l.hidden, P = l.padded;
        const float* in = from_input;
        int64_t gate_stride = P;
        if (l.byte_rows) {
            in = l.byte_rows + byte * 3 * H, gate_stride = H;
        } else {
            l.input.multiply(layer_in, from_input, quantized);
            if (const float* bias = model.layer[k].bias)
                for (int64_t gate = 0; gate < 3; ++gate)
                    for (int64_t i = 0; i < H; ++i) from_input[gate * P + i] += bias[gate * H + i];
        }
        l.gates.multiply(state, gates, quantized);
        for (int64_t i = 0; i < P; i += W) {
            const int n = int(H - i < W ? H - i : W);
            const V r = sigmoid(load(in + gate_stride + i, n) + load(gates + P + i));
            store(reset_state + i, r * load(state + i, n));
        }
        l.candidate.multiply(reset_state, candidate, quantized);
        for (int64_t i = 0; i < P; i += W) {
            const int n = int(H - i < W ? H - i : W);
            const V z = sigmoid(load(in + i, n) + load(gates + i));
            const V c = tanh(load(in + 2 * gate_stride + i, n) + load(candidate + i));
            store(state + i, (1.0f - z) * load(state + i, n) + z * c, n);
        }
    }

    // Runs the model on the byte at `last`: updates `state`, writes the logits of the next byte.
    void run_model(const uint8_t* last, const NgramStats* history_stats, float* state, float* scores) {
        const int64_t E = model.embedding;
        if (E) embed(last);
        int64_t filled = 0;
        for (int64_t k = 0; k < model.layers; ++k) {
            const int64_t H = layer[k].hidden, below = k ? layer[k - 1].hidden : 0;
            if (k) memcpy(layer_in, state - below, size_t(below) * 4);
            if (k == 0 || model.skip) memcpy(layer_in + below, embedded, size_t(E) * 4);
            step(k, *last, state);
            if (!model.skip) filled = 0;
            memcpy(head_in + filled, state, size_t(H) * 4);
            filled += H, state += H;
        }
        if (model.skip) memcpy(head_in + filled, embedded, size_t(E) * 4);
        const float* from = head_in;
        if (model.head) {
            head.multiply(head_in, head_out, quantized);
            for (int64_t i = 0; i < model.head_size; ++i) head_out[i] += model.head_bias[i];
            for (int64_t i = 0; i < model.head_size; i += W) {
                const V a = load(head_out + i);
                store(head_out + i, a > 0.0f ? a : exponential_minus_one(a));
            }
            from = head_out;
        }
        logits.multiply(from, out, quantized);
        for (int64_t i = 0; i < 256; i += W) store(scores + i, load(out + i) + load(model.logits_bias + i));
        NgramStats table_stats[MAX_TABLES];
        for (int64_t k = 0; k < model.counts_mixer.tables; ++k) table_stats[k] = look_up(model.table[k], last);
        counts_gate.multiply(head_in, out, quantized);
        mix(model, model.counts_mixer, table_stats, out, scores);
        history_gate.multiply(head_in, out, quantized);
        mix(model, model.history_mixer, history_stats, out, scores);
    }
};

}  // namespace

extern "C" {
void* ENGINE_NAME(engine_open)(const EngineModel& model) { return new Engine(model); }
void ENGINE_NAME(engine_close)(void* engine) { delete static_cast<Engine*>(engine); }
#if defined(CANTON_EXACT)
int64_t ENGINE_NAME(engine_predict)(void* engine, EngineCall& call, const uint8_t* text, int32_t* out) {
    const DefaultRounding rounding;
    return static_cast<Engine*>(engine)->predict(call, text, out);
}
#else
int64_t ENGINE_NAME(engine_generate)(void* engine, EngineCall& call) { return static_cast<Engine*>(engine)->generate(call); }
#endif
}
