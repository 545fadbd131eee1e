// The entries Python calls: each goes to the copy for the best instruction set this processor has.
#include "abi.h"
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

static int chosen = best();

#define ENTRY(name) ENTRY_FOR(name, Sequence)
#if defined(CANTON_X86)
#define ENTRY_FOR(name, Run)                            \
    void name##_portable(const Run&);                   \
    void name##_avx2(const Run&);                       \
    void name##_avx512(const Run&);                     \
    EXPORT void canton_##name(Run* q) {                 \
        if (chosen == AVX512) return name##_avx512(*q); \
        if (chosen == AVX2) return name##_avx2(*q);     \
        name##_portable(*q);                            \
    }
#else
#define ENTRY_FOR(name, Run)          \
    void name##_portable(const Run&); \
    EXPORT void canton_##name(Run* q) { name##_portable(*q); }
#endif

extern "C" {
ENTRY(gru_before)
ENTRY(gru_before_gradient)
ENTRY(lstm)
ENTRY(lstm_gradient)
ENTRY_FOR(convolve, ConvolutionRun)
ENTRY_FOR(convolve_weights, ConvolutionRun)
ENTRY_FOR(matmul, MatmulRun)
ENTRY(min_gru)
ENTRY(min_gru_gradient)

EXPORT int canton_isa() { return chosen; }
// For tests: asks for a lesser instruction set; a better one than the processor has is refused. Returns the one in use.
EXPORT int canton_use_isa(int isa) {
    if (isa >= PORTABLE && isa <= best()) chosen = isa;
    return chosen;
}
// So that Python and the library can tell that they are of one version.
EXPORT int64_t canton_bytes(int which) {
    return int64_t(which == 0 ? sizeof(Sequence) : which == 3 ? sizeof(ConvolutionRun) : sizeof(MatmulRun));
}
}
