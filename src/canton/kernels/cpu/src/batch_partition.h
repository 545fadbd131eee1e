// Which part of the batch a thread computes at a step, where it lies in Python's arrays, and what starts afresh before.
//
// A unit is a row of a dense batch, else an image. With lengths the units stand in a field in the order of their
// lengths, the longest first: those that a step still computes lie side by side, and the others cost nothing.
#pragma once
#include "padded_image.h"

namespace {

// The rows in Python's arrays of pixels that are neighbours in a field.
struct Place {
    const int64_t* order;  // null: they are neighbours there as well, from `first` on
    int64_t first;
    INLINE int64_t operator()(int64_t i) const { return order ? order[i] : first + i; }
};

class Rows {
    const Sequence& q;
    const bool dense;
    const int64_t lines;  // of a unit
    Memory memory;
    const int64_t* order = nullptr;  // the unit at each place of the field; a thread knows its own only
    int64_t first = 0, last = 0, end = 0;  // the thread's units; those before `end` are computed

public:
    const Span own;

    Rows(const Sequence& q_, const Team& team)
        : q(q_), dense(q_.dense()), lines(dense ? 1 : q_.depth * q_.height), own(share(q_, team)) {
        if (!q.order) return;
        const bool meet = team.barrier && !dense;  // then images are shared, and everybody has all of them
        const int64_t count = dense ? q.width : q.images, each = count / team.count;
        first = meet ? 0 : dense ? own.x0 : own.line0 / lines;
        last = meet ? count : dense ? own.x1 : own.line1 / lines;
        int64_t* mine = reinterpret_cast<int64_t*>(memory.floats(2 * (last - first))) - first;
        for (int64_t i = first; i < last; ++i) {  // dealt like cards, so that no thread has all the long ones
            const int64_t j = i - first, left = each * team.count + first - each * team.index;
            mine[i] = q.order[meet ? i : j < each ? j * team.count + team.index : left];
        }
        order = mine, end = last;
    }

    // What is computed at step t.
    Span at(int64_t t) {
        if (!order) return own;
        while (end < last && q.lengths[order[end]] > t) ++end;
        while (end > first && q.lengths[order[end - 1]] <= t) --end;
        if (dense) return {own.line0, own.line1, own.x0, end};
        const int64_t line = end * lines < own.line1 ? end * lines : own.line1;
        return {own.line0, line > own.line0 ? line : own.line0, own.x0, own.x1};
    }

    INLINE Place place(int64_t line, int64_t x) const {
        if (dense && order) return {order + x, 0};
        const int64_t there = order ? order[line / lines] * lines + line % lines : line;
        return {nullptr, there * q.width + x};
    }

    // Zeros for what `span`, a step's, leaves out; `floats` a pixel.
    void clear(float* to, int64_t floats, const Span& span) const {
        if (!order) return;
        for (int64_t x = span.x1; x < own.x1; ++x) memset(to + order[x] * floats, 0, size_t(floats) * 4);
        for (int64_t line = span.line1; line < own.line1; ++line)
            memset(to + place(line, 0).first * floats, 0, size_t(q.width * floats) * 4);
    }

    // Calls visit(row, line, x) for every pixel of the span whose unit starts afresh before step t.
    template <class Visit>
    void restarts(int64_t t, const Span& span, Visit visit) const {
        if (!q.reset) return;
        const uint8_t* reset = q.reset + t * (dense ? q.width : q.images);
        for (int64_t line = span.line0; line < span.line1; ++line) {
            if (!dense && !reset[place(line, 0).first / (lines * q.width)]) continue;
            for (int64_t x = span.x0; x < span.x1; ++x)
                if (const int64_t row = place(line, x)(0); !dense || reset[row]) visit(row, line, x);
        }
    }

    // Where `from` starts afresh at step t its gradient so far is the fresh state's.
    void hand_over(int64_t t, const Span& span, float* from, float* fresh) const {
        restarts(t, span, [&](int64_t row, int64_t, int64_t) {
            for (int64_t i = row * q.hidden; i < (row + 1) * q.hidden; ++i) fresh[i] += from[i], from[i] = 0;
        });
    }
};

}  // namespace
