#include "thread_pool.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <new>
#include <thread>

namespace {

// A barrier for the threads of a team.
struct Barrier {
    std::atomic<int64_t> arrived{0}, rounds{0};
    std::atomic<int64_t> count{1};

    static void wait(void* p) {
        Barrier* barrier = static_cast<Barrier*>(p);
        const int64_t round = barrier->rounds.load();
        if (barrier->arrived.fetch_add(1) + 1 == barrier->count.load()) {
            barrier->arrived.store(0);
            barrier->rounds.fetch_add(1);
            return;
        }
        for (int spins = 0; barrier->rounds.load() == round; ++spins)
            if (spins > 2000) std::this_thread::yield();
    }
};

// The threads of torch's OpenMP, if it can be found. They are awake already. Threads of the pool would compete with them,
// because they spin while they wait for torch's next operation.
struct OpenMP {
    void (*parallel)(void (*)(void*), void*, unsigned, unsigned) = nullptr;
    int (*index)() = nullptr;
    int (*count)() = nullptr;

    OpenMP() {
        find(parallel, "GOMP_parallel"), find(index, "omp_get_thread_num"), find(count, "omp_get_num_threads");
    }
    template <class F>
    static void find(F& f, const char* name) {
        f = reinterpret_cast<F>(dlsym(RTLD_DEFAULT, name));
    }
    bool found() const { return parallel && index && count; }
};

const OpenMP openmp;

// Linux may wake a thread on the processor of the thread that woke it, and leave both there while another processor idles.
int processor() {
#if defined(__linux__)
    return sched_getcpu();
#else
    return -1;
#endif
}
void leave(int taken) {
#if defined(__linux__)
    cpu_set_t allowed;
    if (taken < 0 || sched_getcpu() != taken || sched_getaffinity(0, sizeof allowed, &allowed)) return;
    cpu_set_t others = allowed;
    CPU_CLR(taken, &others);
    if (CPU_COUNT(&others) && !sched_setaffinity(0, sizeof others, &others)) sched_setaffinity(0, sizeof allowed, &allowed);
#else
    (void)taken;
#endif
}

struct Region {
    void* context;
    Part part;
    bool needs_barrier;
    int first;  // the caller's processor
    Barrier barrier_;

    static void enter(void* p) {
        Region* region = static_cast<Region*>(p);
        if (openmp.index()) leave(region->first);
        const int64_t count = openmp.count();  // perhaps fewer than were asked for
        region->barrier_.count.store(count);
        region->part(region->context, ThreadTeam{openmp.index(), count, region->needs_barrier ? Barrier::wait : nullptr, &region->barrier_});
    }
};

struct Pool {
    std::mutex busy;  // one caller at a time; a second caller's work runs on its own thread alone
    std::mutex lock;
    std::condition_variable start, done;
    int started = 0, left = 0;
    int64_t round = 0, count = 0;
    Part part = nullptr;
    void* context = nullptr;
    bool needs_barrier = false;
    Barrier barrier_;

    ThreadTeam team(int64_t index) { return {index, count, needs_barrier ? Barrier::wait : nullptr, &barrier_}; }

    void work(int64_t index) {
        int64_t seen = 0;
        std::unique_lock<std::mutex> hold(lock);
        for (;;) {
            start.wait(hold, [&] { return round != seen; });
            seen = round;
            if (index >= count) continue;
            hold.unlock();
            part(context, team(index));
            hold.lock();
            if (--left == 0) done.notify_one();
        }
    }
    void run(int64_t n, bool together, void* given, Part work_part) {
        std::unique_lock<std::mutex> hold(lock);
        for (; started < n - 1; ++started) {
            std::thread([this, index = started + 1] { work(index); }).detach();
        }
        barrier_.count.store(n);
        count = n, needs_barrier = together, context = given, part = work_part, left = int(n - 1);
        ++round;
        hold.unlock();
        start.notify_all();
        work_part(given, team(0));
        hold.lock();
        done.wait(hold, [&] { return left == 0; });
    }
};

// A forked child has none of its parent's threads: it gets a new pool and abandons the old one.
Pool* pool = nullptr;
bool forked = false;  // OpenMP's threads are missing too, and OpenMP does not know
void renew() { pool = new Pool; }
void renew_in_child() { forked = true, renew(); }

}  // namespace

static std::mutex weight_cache;
void canton_lock() { weight_cache.lock(); }
void canton_unlock() { weight_cache.unlock(); }

void canton_parallel(const RecurrentRun& run, void* context, Part part) {
    const bool dense = run.dense();
    const int64_t pieces = dense ? run.width : run.circular ? run.images : run.images * run.depth * run.height;
    const int64_t n = run.threads < pieces ? run.threads : pieces;
    canton_parallel_pieces(pieces, run.threads, !dense && run.images < n, context, part);
}

void canton_parallel_pieces(int64_t pieces, int64_t threads, bool needs_barrier, void* context, Part part) {
    const int64_t n = threads < pieces ? threads : pieces;
    if (n > 1) {
        static std::once_flag once;
        std::call_once(once, [] {
            renew();
            pthread_atfork(nullptr, nullptr, renew_in_child);
        });
        if (openmp.found() && !forked) {
            Region region{context, part, needs_barrier, processor(), {}};
            openmp.parallel(Region::enter, &region, unsigned(n), 0);
            return;
        }
        Pool* mine = pool;
        if (mine->busy.try_lock()) {
            mine->run(n, needs_barrier, context, part);
            mine->busy.unlock();
            return;
        }
    }
    part(context, ThreadTeam{0, 1, nullptr, nullptr});
}
