// Which part of the batch a thread computes at a step, where it lies in Python's arrays, and which rows restart.
//
// A unit is a row of a dense batch, else an image. With lengths the units are sorted in the padded image, the longest first:
// those that a step still computes are neighbours, and the others cost nothing.
#pragma once
#include "padded_image.h"

namespace {

// The rows in Python's arrays of pixels that are neighbours in a padded image.
struct RowIndex {
    const int64_t* order;  // null: they are neighbours there as well, from `first` on
    int64_t first;
    INLINE int64_t operator()(int64_t i) const { return order ? order[i] : first + i; }
};

class BatchPartition {
    const RecurrentRun& run;
    const bool dense;
    const int64_t lines;  // of a unit
    Workspace workspace;
    const int64_t* order = nullptr;  // the unit at each position of the padded image; a thread knows its own only
    int64_t first = 0, last = 0, end = 0;  // the thread's units; those before `end` are computed

public:
    const Range own;

    BatchPartition(const RecurrentRun& run_, const ThreadTeam& team)
        : run(run_), dense(run_.dense()), lines(dense ? 1 : run_.depth * run_.height), own(partition(run_, team)) {
        if (!run.order) return;
        const bool needs_barrier = team.barrier && !dense;  // then threads share images, and each knows all of them
        const int64_t count = dense ? run.width : run.images, each = count / team.count;
        first = needs_barrier ? 0 : dense ? own.x0 : own.line0 / lines;
        last = needs_barrier ? count : dense ? own.x1 : own.line1 / lines;
        int64_t* mine = reinterpret_cast<int64_t*>(workspace.floats(2 * (last - first))) - first;
        for (int64_t i = first; i < last; ++i) {  // dealt in turn, so that no thread has all the long ones
            const int64_t j = i - first, left = each * team.count + first - each * team.index;
            mine[i] = run.order[needs_barrier ? i : j < each ? j * team.count + team.index : left];
        }
        order = mine, end = last;
    }

    // The range that is computed at step t.
    Range at(int64_t t) {
        if (!order) return own;
        while (end < last && run.lengths[order[end]] > t) ++end;
        while (end > first && run.lengths[order[end - 1]] <= t) --end;
        if (dense) return {own.line0, own.line1, own.x0, end};
        const int64_t line = end * lines < own.line1 ? end * lines : own.line1;
        return {own.line0, line > own.line0 ? line : own.line0, own.x0, own.x1};
    }

    INLINE RowIndex rows_at(int64_t line, int64_t x) const {
        if (dense && order) return {order + x, 0};
        const int64_t there = order ? order[line / lines] * lines + line % lines : line;
        return {nullptr, there * run.width + x};
    }

    // Write zeros for the pixels of the thread that are not in `range`; `floats` a pixel.
    void clear(float* to, int64_t floats, const Range& range) const {
        if (!order) return;
        for (int64_t x = range.x1; x < own.x1; ++x) memset(to + order[x] * floats, 0, size_t(floats) * 4);
        for (int64_t line = range.line1; line < own.line1; ++line)
            memset(to + rows_at(line, 0).first * floats, 0, size_t(run.width * floats) * 4);
    }

    // Call visit(row, line, x) for every pixel of the range whose unit restarts before step t.
    template <class Visit>
    void for_each_restart(int64_t t, const Range& range, Visit visit) const {
        if (!run.reset) return;
        const uint8_t* reset = run.reset + t * (dense ? run.width : run.images);
        for (int64_t line = range.line0; line < range.line1; ++line) {
            if (!dense && !reset[rows_at(line, 0).first / (lines * run.width)]) continue;
            for (int64_t x = range.x0; x < range.x1; ++x)
                if (const int64_t row = rows_at(line, x)(0); !dense || reset[row]) visit(row, line, x);
        }
    }

    // Where a row restarts before step t, move its gradient from the state to the restart state.
    void move_restart_gradient(int64_t t, const Range& range, float* from, float* fresh) const {
        for_each_restart(t, range, [&](int64_t row, int64_t, int64_t) {
            for (int64_t i = row * run.hidden; i < (row + 1) * run.hidden; ++i) fresh[i] += from[i], from[i] = 0;
        });
    }
};

}  // namespace
