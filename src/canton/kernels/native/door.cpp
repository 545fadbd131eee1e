// The entries Python calls: each goes to the copy for the best instruction set this processor has.
#include "sequence.h"

enum { PORTABLE = 0, AVX2 = 1, AVX512 = 2 };

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

#if defined(CANTON_X86)
#define ENTRY(name)                                                            \
    void name##_portable(const Sequence&);                                     \
    void name##_avx2(const Sequence&);                                         \
    void name##_avx512(const Sequence&);                                       \
    __attribute__((visibility("default"))) void canton_##name(Sequence* q) {   \
        if (chosen == AVX512) return name##_avx512(*q);                        \
        if (chosen == AVX2) return name##_avx2(*q);                            \
        name##_portable(*q);                                                   \
    }
#else
#define ENTRY(name)                                                            \
    void name##_portable(const Sequence&);                                     \
    __attribute__((visibility("default"))) void canton_##name(Sequence* q) { name##_portable(*q); }
#endif

extern "C" {
ENTRY(gru_before)
ENTRY(gru_before_gradient)

// 0 portable, 1 AVX2 with FMA, 2 AVX-512.
__attribute__((visibility("default"))) int canton_isa() { return chosen; }
// For tests: asks for a lesser instruction set; a better one than the processor has is refused. Returns the one in use.
__attribute__((visibility("default"))) int canton_use_isa(int isa) {
    if (isa >= PORTABLE && isa <= best()) chosen = isa;
    return chosen;
}
__attribute__((visibility("default"))) int64_t canton_sequence_bytes() { return int64_t(sizeof(Sequence)); }
}
