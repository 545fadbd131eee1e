#include "pool.h"

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <new>
#include <thread>

namespace {

struct Pool {
    std::mutex busy;  // one caller at a time; a second caller's work runs on its own thread alone
    std::mutex lock;
    std::condition_variable start, done;
    int started = 0, left = 0;
    int64_t round = 0, count = 0;
    Part part = nullptr;
    void* context = nullptr;
    bool meet = false;
    std::atomic<int64_t> arrived{0}, met{0};

    static void barrier(void* p) {
        Pool* pool = static_cast<Pool*>(p);
        const int64_t now = pool->met.load();
        if (pool->arrived.fetch_add(1) + 1 == pool->count) {
            pool->arrived.store(0);
            pool->met.fetch_add(1);
            return;
        }
        for (int spins = 0; pool->met.load() == now; ++spins)
            if (spins > 2000) std::this_thread::yield();
    }
    Team team(int64_t index) { return {index, count, meet ? barrier : nullptr, this}; }

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
void renew() { pool = new Pool; }

}  // namespace

static std::mutex packings;
void canton_lock() { packings.lock(); }
void canton_unlock() { packings.unlock(); }

void canton_parallel(const Sequence& q, void* context, Part part) {
    const bool dense = q.dense();
    const int64_t pieces = dense ? q.width : q.circular ? q.images : q.images * q.depth * q.height;
    const int64_t n = q.threads < pieces ? q.threads : pieces;
    if (n > 1) {
        static std::once_flag once;
        std::call_once(once, [] {
            renew();
            pthread_atfork(nullptr, nullptr, renew);
        });
        Pool* mine = pool;
        if (mine->busy.try_lock()) {
            mine->run(n, !dense && q.images < n, context, part);
            mine->busy.unlock();
            return;
        }
    }
    part(context, Team{0, 1, nullptr, nullptr});
}
