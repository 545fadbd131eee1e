// The instruction set that every dispatch file selects its entry points by.
#pragma once

#define EXPORT __attribute__((visibility("default")))

enum { PORTABLE = 0, AVX2 = 1, AVX512 = 2 };

// The selected one: the best of this processor, unless a test selected a lesser one (canton_use_isa).
extern "C" EXPORT int canton_isa();
