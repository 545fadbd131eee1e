// Large arrays in large pages: where memory is new, the system hands it over page by page, and a page of 4 KB costs a
// virtual machine more time than filling it does.
#include <stdint.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

// Asks for large pages in the bytes [at, at + size), as far as whole ones lie in them. What is there stays as it is.
extern "C" __attribute__((visibility("default"))) void canton_large_pages(void* at, int64_t size) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    const uintptr_t page = 2 << 20, start = uintptr_t(at), end = start + uintptr_t(size);
    const uintptr_t first = (start + page - 1) / page * page, last = end / page * page;
    if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
    (void)at, (void)size;
#endif
}
