// Zeroed memory, aligned to a cache line. std::vector is not used: the linker would share its code between instruction sets.
#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

namespace {

template <class T>
struct Buffer {
    T* data = nullptr;

    Buffer() = default;
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { free(data); }

    void allocate(int64_t count) {
        const size_t bytes = size_t(count) * sizeof(T);
        void* memory = nullptr;
        free(data);
        if (posix_memalign(&memory, 64, bytes + 64)) abort();
        data = static_cast<T*>(memset(memory, 0, bytes + 64));
    }
};

}  // namespace
