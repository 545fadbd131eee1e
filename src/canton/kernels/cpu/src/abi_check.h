// Tables of struct fields and constants, for Python to compare with its own when it loads the library (abi_check.py).
#pragma once
#include <stddef.h>
#include <stdint.h>

struct AbiField {
    const char *structure, *padded;
    int64_t offset, size;
};

struct AbiConstant {
    const char* name;
    int64_t value;
};

// A table ends with {}. A structure has an entry for its size and one for every padded.
#define ABI_SIZE(Structure) {#Structure, "", 0, sizeof(Structure)}
#define ABI_FIELD(Structure, padded) {#Structure, #padded, offsetof(Structure, padded), sizeof(Structure::padded)}
#define ABI_CONSTANT(name) {#name, int64_t(name)}
