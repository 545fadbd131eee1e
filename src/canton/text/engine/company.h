// Whether threads that share every product of a step are quicker than one alone. Where the processors have other work, a
// thread that waits for another waits for the system's clock; so both ways are timed, and the worse one is tried again
// ever more rarely. The bits are the same either way.
#pragma once
#include <stdint.h>
#include <time.h>

namespace {

inline int64_t nanoseconds() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return int64_t(now.tv_sec) * 1000000000 + now.tv_nsec;
}

class Company {
   public:
    static constexpr int64_t TRIAL = 8;

    bool wanted() const { return alone > 0 && (together < alone || patience == 0); }

    // Steps until the next decision: few where a way is only tried.
    int64_t piece(bool shared) const { return shared ? (together < alone ? 256 : TRIAL) : alone > 0 ? 256 : 16; }

    void took(bool shared, double each) {
        if (!shared) {
            alone = each;
            if (patience > 0) --patience;
            return;
        }
        together = each;
        if (together < alone) {
            penalty = 4;
        } else {
            patience = penalty, penalty = penalty < 1024 ? 4 * penalty : penalty;
        }
    }

   private:
    double alone = 0, together = 1e300;  // nanoseconds a step, the last time
    int64_t patience = 0, penalty = 4;   // pieces to do alone before company is tried again
};

}  // namespace
