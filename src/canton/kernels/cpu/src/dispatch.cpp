// The functions that Python calls: each calls the copy for the selected instruction set.
#include <stdlib.h>
#include <string.h>

#include "abi.h"
#include "abi_check.h"
#include "instruction_set.h"

static int best() {
#if defined(CANTON_X86)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return AVX2;
#endif
    return PORTABLE;
}

static int selected = best();

#if defined(CANTON_X86)
#define ENTRY(name, Run)                                 \
    void name##_portable(const Run&);                    \
    void name##_avx2(const Run&);                        \
    void name##_avx512(const Run&);                      \
    EXPORT void canton_##name(Run* run) {                \
        if (selected == AVX512) return name##_avx512(*run); \
        if (selected == AVX2) return name##_avx2(*run);     \
        name##_portable(*run);                           \
    }
#else
#define ENTRY(name, Run)              \
    void name##_portable(const Run&); \
    EXPORT void canton_##name(Run* run) { name##_portable(*run); }
#endif

// The cells register themselves when the library loads, once for each instruction set.
struct RegisteredCell {
    const char* name;
    CellFunctions functions[3];
};
static RegisteredCell cells[64];

static RegisteredCell* find_cell(const char* name) {
    RegisteredCell* cell = cells;
    while (cell->name && strcmp(cell->name, name)) ++cell;
    return cell;
}

void canton_register_cell(int instruction_set, const char* name, void (*forward)(const RecurrentRun&),
                          void (*backward)(const RecurrentRun&), bool (*is_quick)(const RecurrentRun&)) {
    RegisteredCell* cell = find_cell(name);
    if (cell + 1 == cells + sizeof cells / sizeof *cells) abort();  // the last entry stays empty
    cell->name = name;
    cell->functions[instruction_set] = {forward, backward, is_quick};
}

extern "C" {
ENTRY(convolve, ConvolutionRun)
ENTRY(convolve_weights, ConvolutionRun)
ENTRY(gemm, GemmRun)
ENTRY(tanh, TanhRun)

// The cell registered as `name`, for the calls below; null if there is none.
EXPORT const RegisteredCell* canton_cell(const char* name) {
    const RegisteredCell* cell = find_cell(name);
    return cell->name ? cell : nullptr;
}
EXPORT void canton_cell_forward(const RegisteredCell* cell, const RecurrentRun* run) {
    cell->functions[selected].forward(*run);
}
EXPORT void canton_cell_backward(const RegisteredCell* cell, const RecurrentRun* run) {
    cell->functions[selected].backward(*run);
}
// It matters only which arrays are null.
EXPORT int canton_cell_is_quick(const RegisteredCell* cell, const RecurrentRun* run) {
    return cell->functions[selected].is_quick(*run);
}
EXPORT int canton_winograd(const RecurrentRun* run) { return run->winograd(); }

EXPORT int canton_isa() { return selected; }
// For tests: select a smaller instruction set. One that the processor lacks is rejected. Returns the selected one.
EXPORT int canton_use_isa(int isa) {
    if (isa >= PORTABLE && isa <= best()) selected = isa;
    return selected;
}

EXPORT const AbiField* canton_fields() {
    static const AbiField table[] = {
        ABI_SIZE(RecurrentRun), ABI_FIELD(RecurrentRun, steps), ABI_FIELD(RecurrentRun, images),
        ABI_FIELD(RecurrentRun, depth), ABI_FIELD(RecurrentRun, height), ABI_FIELD(RecurrentRun, width),
        ABI_FIELD(RecurrentRun, hidden), ABI_FIELD(RecurrentRun, kernel), ABI_FIELD(RecurrentRun, dilation),
        ABI_FIELD(RecurrentRun, circular), ABI_FIELD(RecurrentRun, threads), ABI_FIELD(RecurrentRun, gx),
        ABI_FIELD(RecurrentRun, weights), ABI_FIELD(RecurrentRun, states), ABI_FIELD(RecurrentRun, saved),
        ABI_FIELD(RecurrentRun, d_outputs), ABI_FIELD(RecurrentRun, d_states), ABI_FIELD(RecurrentRun, d_gx),
        ABI_FIELD(RecurrentRun, product_inputs), ABI_FIELD(RecurrentRun, order), ABI_FIELD(RecurrentRun, lengths),
        ABI_FIELD(RecurrentRun, reset), ABI_FIELD(RecurrentRun, reset_state), ABI_FIELD(RecurrentRun, d_reset_state),
        ABI_SIZE(ConvolutionRun), ABI_FIELD(ConvolutionRun, images), ABI_FIELD(ConvolutionRun, in_channels),
        ABI_FIELD(ConvolutionRun, out_channels), ABI_FIELD(ConvolutionRun, height), ABI_FIELD(ConvolutionRun, width),
        ABI_FIELD(ConvolutionRun, out_height), ABI_FIELD(ConvolutionRun, out_width), ABI_FIELD(ConvolutionRun, kernel),
        ABI_FIELD(ConvolutionRun, pad), ABI_FIELD(ConvolutionRun, circular), ABI_FIELD(ConvolutionRun, transposed),
        ABI_FIELD(ConvolutionRun, threads), ABI_FIELD(ConvolutionRun, by_image), ABI_FIELD(ConvolutionRun, by_channel),
        ABI_FIELD(ConvolutionRun, by_line), ABI_FIELD(ConvolutionRun, by_pixel), ABI_FIELD(ConvolutionRun, x),
        ABI_FIELD(ConvolutionRun, weight), ABI_FIELD(ConvolutionRun, bias), ABI_FIELD(ConvolutionRun, y),
        ABI_FIELD(ConvolutionRun, dy), ABI_FIELD(ConvolutionRun, dy_pixel), ABI_FIELD(ConvolutionRun, dweight),
        ABI_SIZE(GemmRun), ABI_FIELD(GemmRun, rows), ABI_FIELD(GemmRun, columns), ABI_FIELD(GemmRun, depth),
        ABI_FIELD(GemmRun, threads), ABI_FIELD(GemmRun, a_row), ABI_FIELD(GemmRun, a_depth),
        ABI_FIELD(GemmRun, b_column), ABI_FIELD(GemmRun, b_depth), ABI_FIELD(GemmRun, c_row), ABI_FIELD(GemmRun, a),
        ABI_FIELD(GemmRun, b), ABI_FIELD(GemmRun, bias), ABI_FIELD(GemmRun, c),
        ABI_SIZE(TanhRun), ABI_FIELD(TanhRun, rows), ABI_FIELD(TanhRun, columns), ABI_FIELD(TanhRun, row),
        ABI_FIELD(TanhRun, threads), ABI_FIELD(TanhRun, x),
        {},
    };
    return table;
}
EXPORT const AbiConstant* canton_constants() {
    static const AbiConstant table[] = {
        ABI_CONSTANT(MAX_PRODUCTS), ABI_CONSTANT(MAX_STATES), ABI_CONSTANT(MAX_KERNEL_PIXELS),
        ABI_CONSTANT(MIN_WINOGRAD_CHANNELS), {"LANES_PORTABLE", LANES[PORTABLE]}, {"LANES_AVX2", LANES[AVX2]},
        {"LANES_AVX512", LANES[AVX512]},
        {},
    };
    return table;
}
}
