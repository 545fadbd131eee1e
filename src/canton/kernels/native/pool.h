// Threads that wait for work between calls. One thread needs none of this: the caller runs the work itself.
#pragma once
#include "sequence.h"

typedef void (*Part)(void* context, const Team& team);

// Runs part(context, team) on up to q.threads threads and returns when all are done.
void canton_parallel(const Sequence& q, void* context, Part part);
