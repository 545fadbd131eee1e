// The instruction sets that the library has copies for; every dispatch file selects its entry points by canton_isa().
#pragma once

#define EXPORT __attribute__((visibility("default")))

enum { PORTABLE = 0, AVX2 = 1, AVX512 = 2 };
constexpr int LANES[] = {4, 8, 16};  // floats in a vector

// The selected one: the best of this processor, unless a test selected another (canton_use_isa).
extern "C" EXPORT int canton_isa();
