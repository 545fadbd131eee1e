// The entries Python calls: each goes to the copy for the best instruction set this processor has.
#include "abi.h"
#include "engine_abi.h"

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

#define EXPORT __attribute__((visibility("default")))

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

#define WRITER(isa)                                       \
    void* writer_open_##isa(const WriterModel&);          \
    void writer_close_##isa(void*);                       \
    int64_t writer_write_##isa(void*, WriterRun&);        \
    static const WriterEntries writer_##isa = {writer_open_##isa, writer_close_##isa, writer_write_##isa};

struct WriterEntries {
    void* (*open)(const WriterModel&);
    void (*close)(void*);
    int64_t (*write)(void*, WriterRun&);
};
// A writer stays with the instruction set it was packed for.
struct OpenWriter {
    const WriterEntries* entries;
    void* writer;
};

WRITER(portable)
#if defined(CANTON_X86)
WRITER(avx2)
WRITER(avx512)
static const WriterEntries* const writers[] = {&writer_portable, &writer_avx2, &writer_avx512};
#else
static const WriterEntries* const writers[] = {&writer_portable};
#endif

EXPORT void* canton_writer_open(const WriterModel* model) {
    const WriterEntries* entries = writers[chosen];
    return new OpenWriter{entries, entries->open(*model)};
}
EXPORT void canton_writer_close(void* open) {
    OpenWriter* w = static_cast<OpenWriter*>(open);
    w->entries->close(w->writer);
    delete w;
}
EXPORT int64_t canton_writer_write(void* open, WriterRun* run) {
    OpenWriter* w = static_cast<OpenWriter*>(open);
    return w->entries->write(w->writer, *run);
}

// 0 portable, 1 AVX2 with FMA, 2 AVX-512.
EXPORT int canton_isa() { return chosen; }
// For tests: asks for a lesser instruction set; a better one than the processor has is refused. Returns the one in use.
EXPORT int canton_use_isa(int isa) {
    if (isa >= PORTABLE && isa <= best()) chosen = isa;
    return chosen;
}
// So that Python and the library can tell that they are of one version.
EXPORT int64_t canton_bytes(int which) {
    return int64_t(which == 0 ? sizeof(Sequence) : which == 1 ? sizeof(WriterModel) : which == 2 ? sizeof(WriterRun) : which == 3 ? sizeof(ConvolutionRun) : sizeof(MatmulRun));
}
}
