// A pool of threads that wait for work between calls. With one thread the caller runs the work itself.
#pragma once
#include "abi.h"

typedef void (*Part)(void* context, const ThreadTeam& team);

// Run part(context, team) on up to run.threads threads; return when all are done.
void canton_parallel(const RecurrentRun& run, void* context, Part part);

// The same on up to `threads` threads for `pieces` pieces of work; ThreadTeam::wait works only if needs_barrier.
void canton_parallel_pieces(int64_t pieces, int64_t threads, bool needs_barrier, void* context, Part part);
