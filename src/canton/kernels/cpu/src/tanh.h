// tanh of a matrix, in place: for loops over time that run outside C++.
#pragma once
#include "simd.h"
#include "thread_pool.h"

namespace {

class MatrixTanh {
    static constexpr int64_t PIECE = 4096;  // floats that a thread takes at a time

    const TanhRun& run;
    const int64_t pieces_of_row = (run.columns + PIECE - 1) / PIECE;

public:
    explicit MatrixTanh(const TanhRun& run_) : run(run_) {}

    int64_t pieces() const { return run.rows * pieces_of_row; }

    void work(const ThreadTeam& team) const {
        const int64_t last = pieces() * (team.index + 1) / team.count;
        for (int64_t piece = pieces() * team.index / team.count; piece < last; ++piece) {
            const int64_t start = piece % pieces_of_row * PIECE, left = run.columns - start;
            float* x = run.x + piece / pieces_of_row * run.row + start;
            const int64_t end = left < PIECE ? left : PIECE;
            for (int64_t i = 0; i < end; i += W) {
                const int n = int(end - i < W ? end - i : W);
                store(x + i, tanh(load(x + i, n)), n);
            }
        }
    }
};

void matrix_tanh(const TanhRun& run) {
    MatrixTanh matrix(run);
    canton_parallel_pieces(matrix.pieces(), run.threads, false, &matrix,
                           [](void* p, const ThreadTeam& team) { static_cast<MatrixTanh*>(p)->work(team); });
}

}  // namespace
