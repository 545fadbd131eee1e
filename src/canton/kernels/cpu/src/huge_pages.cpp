// Huge pages for large arrays. The system provides new memory page by page, and in a virtual machine a page of 4 KB takes
// longer to provide than to fill.
#include <stdint.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

// Request huge pages for the bytes [at, at + size) where whole ones fit. The contents stay.
extern "C" __attribute__((visibility("default"))) void canton_huge_pages(void* at, int64_t size) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    const uintptr_t page = 2 << 20, start = uintptr_t(at), end = start + uintptr_t(size);
    const uintptr_t first = (start + page - 1) / page * page, last = end / page * page;
    if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
    (void)at, (void)size;
#endif
}
