// The constants of canton.text.ngram.keys and canton.text.types; abi.py compares them when it loads the library.
#pragma once
#include <stdint.h>

enum { MAX_FOLLOWERS = 8, WORD_LOOKBACK = 23, MAX_WORDS = 3, MAX_BYTES = 7, HASH_SHIFT_1 = 15, HASH_SHIFT_2 = 13 };
const uint64_t HASH_MASK = 0xFFFFFFFFu, HASH_PRIME = 0x01000193u, HASH_MULTIPLIER = 0x2C1B3C6Du;
