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

// Where the threads of a team wait for each other.
struct Meeting {
    std::atomic<int64_t> arrived{0}, met{0};
    std::atomic<int64_t> count{1};

    static void wait(void* p) {
        Meeting* meeting = static_cast<Meeting*>(p);
        const int64_t now = meeting->met.load();
        if (meeting->arrived.fetch_add(1) + 1 == meeting->count.load()) {
            meeting->arrived.store(0);
            meeting->met.fetch_add(1);
            return;
        }
        for (int spins = 0; meeting->met.load() == now; ++spins)
            if (spins > 2000) std::this_thread::yield();
    }
};

// The threads of torch's own OpenMP, where it can be found. They are awake already; and threads of ours would have to
// share the processors with them, for they spin while they wait for torch's next operation.
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

// Linux may wake a thread on the processor of the one that woke it, and leave both there for a while as another one idles.
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
    bool meet;
    int first;  // the processor of the thread that asks
    Meeting meeting;

    static void enter(void* p) {
        Region* region = static_cast<Region*>(p);
        if (openmp.index()) leave(region->first);
        const int64_t count = openmp.count();  // perhaps fewer than were asked for
        region->meeting.count.store(count);
        region->part(region->context, Team{openmp.index(), count, region->meet ? Meeting::wait : nullptr, &region->meeting});
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
    bool meet = false;
    Meeting meeting;

    Team team(int64_t index) { return {index, count, meet ? Meeting::wait : nullptr, &meeting}; }

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
        meeting.count.store(n);
        count = n, meet = together, context = given, part = work_part, left = int(n - 1);
        ++round;
        hold.unlock();
        start.notify_all();
        work_part(given, team(0));
        hold.lock();
        done.wait(hold, [&] { return left == 0; });
    }
};

// A forked child has none of its parent's threads: it gets a new pool and lets the old one be.
Pool* pool = nullptr;
bool forked = false;  // OpenMP's threads are not there either, and it does not know
void renew() { pool = new Pool; }
void renew_in_child() { forked = true, renew(); }

}  // namespace

static std::mutex packings;
void canton_lock() { packings.lock(); }
void canton_unlock() { packings.unlock(); }

void canton_parallel(const Sequence& q, void* context, Part part) {
    const bool dense = q.dense();
    const int64_t pieces = dense ? q.width : q.circular ? q.images : q.images * q.depth * q.height;
    const int64_t n = q.threads < pieces ? q.threads : pieces;
    canton_together(pieces, q.threads, !dense && q.images < n, context, part);
}

void canton_together(int64_t pieces, int64_t threads, bool meet, void* context, Part part) {
    const int64_t n = threads < pieces ? threads : pieces;
    if (n > 1) {
        static std::once_flag once;
        std::call_once(once, [] {
            renew();
            pthread_atfork(nullptr, nullptr, renew_in_child);
        });
        if (openmp.found() && !forked) {
            Region region{context, part, meet, processor(), {}};
            openmp.parallel(Region::enter, &region, unsigned(n), 0);
            return;
        }
        Pool* mine = pool;
        if (mine->busy.try_lock()) {
            mine->run(n, meet, context, part);
            mine->busy.unlock();
            return;
        }
    }
    part(context, Team{0, 1, nullptr, nullptr});
}
