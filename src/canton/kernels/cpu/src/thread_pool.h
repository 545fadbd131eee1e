// Threads that wait for work between calls. One thread needs none of this: the caller runs the work itself.
#pragma once
#include "abi.h"

typedef void (*Part)(void* context, const Team& team);

// Runs part(context, team) on up to q.threads threads and returns when all are done.
void canton_parallel(const Sequence& q, void* context, Part part);

// The same on up to `threads` threads for `pieces` pieces of work; those that `meet` have a barrier.
void canton_together(int64_t pieces, int64_t threads, bool meet, void* context, Part part);
