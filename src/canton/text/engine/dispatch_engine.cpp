// The generator's exported functions. Each calls the copy for the instruction set that the model was packed with.
#include "engine_abi.h"
#include "instruction_set.h"

struct Entries {
    void* (*open)(const WriterModel&);
    void (*close)(void*);
    int64_t (*write)(void*, WriterRun&);
};

struct OpenWriter {
    const Entries* entries;
    void* writer;
};

#define ENTRIES(isa)                               \
    void* writer_open_##isa(const WriterModel&);   \
    void writer_close_##isa(void*);                \
    int64_t writer_write_##isa(void*, WriterRun&); \
    static const Entries entries_##isa = {writer_open_##isa, writer_close_##isa, writer_write_##isa};

extern "C" {
ENTRIES(portable)
#if defined(CANTON_X86)
ENTRIES(avx2)
ENTRIES(avx512)
static const Entries* const entries_of[] = {&entries_portable, &entries_avx2, &entries_avx512};
#else
static const Entries* const entries_of[] = {&entries_portable};
#endif

EXPORT void* canton_writer_open(const WriterModel* model) {
    const Entries* entries = entries_of[canton_isa()];
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
}
