// What a file in cells/ needs: products, the batch's partition, threads, and registration under the file's name for Python.
#pragma once
#include "batch_partition.h"
#include "thread_pool.h"
#include "winograd.h"

// In dispatch.cpp. Its arguments are scalars on purpose: this call runs when the library loads, on every processor, so it
// must not copy anything by vector instructions.
void canton_register_cell(int instruction_set, const char* name, void (*forward)(const RecurrentRun&),
                          void (*backward)(const RecurrentRun&), bool (*is_quick)(const RecurrentRun&));

namespace {

// Runs Cell's member function on a team of threads that share one Cell.
template <class Cell, void (Cell::*loop)(const RecurrentRun&, const ThreadTeam&)>
void run_cell(const RecurrentRun& run) {
    Cell cell(run);
    struct Context {
        Cell* cell;
        const RecurrentRun* run;
    } context{&cell, &run};
    canton_parallel(run, &context, [](void* p, const ThreadTeam& team) {
        Context* c = static_cast<Context*>(p);
        (c->cell->*loop)(*c->run, team);
    });
}

}  // namespace

#define REGISTER_CELL(name, forward, backward, is_quick)                                                \
    __attribute__((constructor)) static void register_##name() {                                        \
        canton_register_cell(CANTON_INSTRUCTION_SET, #name, forward, backward, is_quick);               \
    }
