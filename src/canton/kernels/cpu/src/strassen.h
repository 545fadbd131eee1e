// Strassen's product of two matrices: 7 products of their quarters where there seem to be 8, and 49 of their sixteenths.
// What is multiplied are sums of blocks of a and of b, and every product goes into several blocks of c. The sums are made
// where a block is packed or written anyhow. The packed b is 7 quarters or 49 sixteenths of its size, and each thread
// keeps those rows of c that wait for more products.
// Strassen 1969; Huang, Smith, Henry & van de Geijn 2016, "Strassen's Algorithm Reloaded", for where the sums are made.
#pragma once
#include "simd.h"

namespace {

// A block's place among `side` x `side` and its sign in the sum; `first`: no product before this one went there.
struct Term {
    int row, column;
    float sign;
    bool first, last;
};

struct Sum {
    Term terms[4];
    int count;
};

struct Recipe {
    int side, products;  // 1 and 1: the plain product
    Sum a[49], b[49], c[49];

    explicit Recipe(int levels) : side(1 << levels), products(levels == 0 ? 1 : levels == 1 ? 7 : 49) {
        // by quarter 11, 12, 21, 22
        static const int A[7][4] = {{1, 0, 0, 1}, {0, 0, 1, 1}, {1, 0, 0, 0}, {0, 0, 0, 1},
                                    {1, 1, 0, 0}, {-1, 0, 1, 0}, {0, 1, 0, -1}};
        static const int B[7][4] = {{1, 0, 0, 1}, {1, 0, 0, 0}, {0, 1, 0, -1}, {-1, 0, 1, 0},
                                    {0, 0, 0, 1}, {1, 1, 0, 0}, {0, 0, 1, 1}};
        static const int C[7][4] = {{1, 0, 0, 1}, {0, 0, 1, -1}, {0, 1, 0, 1}, {1, 0, 1, 0},
                                    {-1, 1, 0, 0}, {0, 0, 0, 1}, {1, 0, 0, 0}};
        Term* latest[16] = {};
        for (int i = 0; i < products; ++i) {
            a[i] = sum(A, i), b[i] = sum(B, i), c[i] = sum(C, i);
            for (int t = 0; t < c[i].count; ++t) {
                Term& term = c[i].terms[t];
                Term*& before = latest[term.row * side + term.column];
                term.first = !before, term.last = true;
                if (before) before->last = false;
                before = &term;
            }
        }
    }

   private:
    // Two levels: the quarters' quarters, with the products of their signs.
    Sum sum(const int signs[7][4], int i) const {
        Sum s{};
        if (side == 1) {
            s.terms[s.count++] = {0, 0, 1, false, false};
            return s;
        }
        const int outer = side == 2 ? i : i / 7;
        for (int p = 0; p < 4; ++p)
            for (int q = 0; q < (side == 2 ? 1 : 4); ++q) {
                const int sign = signs[outer][p] * (side == 2 ? 1 : signs[i % 7][q]);
                if (!sign) continue;
                if (side == 2) s.terms[s.count++] = {p / 2, p % 2, float(sign), false, false};
                else s.terms[s.count++] = {p / 2 * 2 + q / 2, p % 2 * 2 + q % 2, float(sign), false, false};
            }
        return s;
    }
};

inline const Recipe& recipe(int64_t levels) {
    static const Recipe recipes[] = {Recipe(0), Recipe(1), Recipe(2)};
    return recipes[levels];
}

// The signed sum of blocks of n floats, of which block (row, column) lies at from + (row * side + column) * n.
template <int N>
void sum_of(const Sum& s, const float* from, int side, int64_t n, float* to) {
    const float* block[N];
    for (int t = 0; t < N; ++t) block[t] = from + (s.terms[t].row * side + s.terms[t].column) * n;
    for (int64_t i = 0; i < n; i += W) {
        V total = load(block[0] + i) * s.terms[0].sign;
        for (int t = 1; t < N; ++t) total += load(block[t] + i) * s.terms[t].sign;
        store(to + i, total);
    }
}

// Where the sum lies: in `to`, unless it is one block alone, whose sign is never -1. n is a multiple of W.
inline const float* summed(const Sum& s, const float* from, int side, int64_t n, float* to) {
    if (s.count == 1) return from + (s.terms[0].row * side + s.terms[0].column) * n;
    if (s.count == 2) sum_of<2>(s, from, side, n, to);
    else sum_of<4>(s, from, side, n, to);
    return to;
}

}  // namespace
