"""The Triton programs of the dense reset-before GRU. Needs Triton; see `gru` and `launch`."""

# mypy: ignore-errors
# Triton's own compiler reads these functions: annotations have another meaning there.

import triton
import triton.language as tl


@triton.jit
def _rows_of(a, ok, start, depth, DEPTH: tl.constexpr, SPLIT: tl.constexpr):
    """Rows that start at the pointers `a`, in SPLIT slabs; read past the L1 cache, as others wrote them."""
    if SPLIT == 1:
        k = start + tl.arange(0, DEPTH)[None, :]
        at, fine = a[:, None] + k, ok[:, None] & (k < depth)
    else:
        k = start + tl.arange(0, SPLIT)[:, None, None] * DEPTH + tl.arange(0, DEPTH)[None, None, :]
        at, fine = a[None, :, None] + k, ok[None, :, None] & (k < depth)
    return tl.load(at, mask=fine, other=0.0, cache_modifier=".cg")


@triton.jit
def _columns_of(w, start, depth, COLS: tl.constexpr, DEPTH: tl.constexpr, SPLIT: tl.constexpr):
    """The packed columns of the weight that start at the pointer `w`, in the same slabs."""
    if SPLIT == 1:
        k = start + tl.arange(0, DEPTH)[:, None]
        at = k * COLS + tl.arange(0, COLS)[None, :]
    else:
        k = start + tl.arange(0, SPLIT)[:, None, None] * DEPTH + tl.arange(0, DEPTH)[None, :, None]
        at = k * COLS + tl.arange(0, COLS)[None, None, :]
    return tl.load(w + at, mask=k < depth, other=0.0)


@triton.jit
def _products(
    a, b, ok, v, w, depth, COUNT: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """Sums over k of a[row, k] v[k, n] and, where COUNT is 2, of b[row, k] w[k, n], in float32.

    The depth is cut in SPLIT slabs that run side by side: a chain of dependent additions 1 / SPLIT as long.
    """
    if SPLIT == 1:
        first = tl.zeros((ROWS, COLS), tl.float32)
    else:
        first = tl.zeros((SPLIT, ROWS, COLS), tl.float32)
    second = first
    for start in range(0, depth, DEPTH * SPLIT):
        left = _rows_of(a, ok, start, depth, DEPTH, SPLIT)
        right = _columns_of(v, start, depth, COLS, DEPTH, SPLIT)
        if COUNT == 2:
            other_left = _rows_of(b, ok, start, depth, DEPTH, SPLIT)
            other_right = _columns_of(w, start, depth, COLS, DEPTH, SPLIT)
            second = tl.dot(other_left, other_right, second, input_precision=PRECISION)
        first = tl.dot(left, right, first, input_precision=PRECISION)
    if SPLIT > 1:
        first = tl.sum(first, 0)
        second = tl.sum(second, 0)
    return first, second


@triton.jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def _tanh(x):
    """The ratio of polynomials of cpu/src/simd.h: exact near 0, where 1 - exp(-2x) cancels; NaN stays NaN."""
    x = tl.where(x > 7.90531110763549805, 7.90531110763549805, x)
    x = tl.where(x < -7.90531110763549805, -7.90531110763549805, x)
    s = x * x
    p = 2.00018790482477e-13 - 2.76076847742355e-16 * s
    p = p * s - 8.60467152213735e-11
    p = p * s + 5.12229709037114e-08
    p = p * s + 1.48572235717979e-05
    p = p * s + 6.37261928875436e-04
    p = p * s + 4.89352455891786e-03
    q = 1.18534705686654e-04 + 1.19825839466702e-06 * s
    q = q * s + 2.26843463243900e-03
    q = q * s + 4.89352518554385e-03
    return x * p / q


@triton.jit
def _meet(counter, goal):
    """Wait until every program of the group has arrived; `goal` counts their arrivals since the launch.

    The release makes this program's stores visible first. The wait is relaxed, as an acquire would empty the
    L1 cache, weights and all: what others write is read past that cache. The difference may wrap around.
    """
    tl.debug_barrier()
    tl.atomic_add(counter, 1, sem="release", scope="gpu")
    while tl.atomic_add(counter, 0, sem="relaxed", scope="gpu") - goal < 0:
        pass
    tl.debug_barrier()


@triton.jit
def _load(a, mask):
    return tl.load(a, mask=mask, other=0.0).to(tl.float32)  # memory that no program writes, or only this one


@triton.jit
def _store(a, value, mask):
    tl.store(a, value.to(a.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["steps", "batch"])
def forward(
    gx, weights, states, zr, c, rh, counters, steps, batch, hidden,
    PRECISION: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    counter, members = counters + tl.program_id(0), tl.num_programs(1)
    first, stride = tl.program_id(1) * COLS, members * COLS
    square = tl.cast(tl.cdiv(hidden, COLS) * COLS, tl.int64) * hidden  # packed weights: z, r, c
    goal = 0
    for block in range(tl.program_id(0), tl.cdiv(batch, ROWS), tl.num_programs(0)):
        rows = tl.cast(block, tl.int64) * ROWS + tl.arange(0, ROWS)
        ok = rows < batch
        for t in range(steps):
            row = tl.cast(t, tl.int64) * batch + rows
            x, h, after = gx + row * 3 * hidden, states + row * hidden, states + (row + batch) * hidden
            both, new, reset = zr + row * 2 * hidden, c + row * hidden, rh + row * hidden
            for start in range(first, hidden, stride):  # the gates
                n = start + tl.arange(0, COLS)
                n_ok = n < hidden
                w = weights + tl.cast(start, tl.int64) * hidden
                here = ok[:, None] & n_ok[None, :]
                x_z = _load(x[:, None] + n[None, :], here)
                x_r = _load(x[:, None] + hidden + n[None, :], here)
                before = _load(h[:, None] + n[None, :], here)
                z, r = _products(h, h, ok, w, w + square, hidden, 2, PRECISION, ROWS, COLS, DEPTH, SPLIT)
                r = _sigmoid(r + x_r)
                _store(both[:, None] + n[None, :], _sigmoid(z + x_z), here)
                _store(both[:, None] + hidden + n[None, :], r, here)
                _store(reset[:, None] + n[None, :], r * before, here)
            goal += members
            _meet(counter, goal)
            for start in range(first, hidden, stride):  # the candidate and the blend
                n = start + tl.arange(0, COLS)
                n_ok = n < hidden
                w = weights + tl.cast(start, tl.int64) * hidden
                here = ok[:, None] & n_ok[None, :]
                x_c = _load(x[:, None] + 2 * hidden + n[None, :], here)
                before = _load(h[:, None] + n[None, :], here)
                z = _load(both[:, None] + n[None, :], here)
                a, _ = _products(
                    reset, reset, ok, w + 2 * square, w, hidden, 1, PRECISION, ROWS, COLS, DEPTH, SPLIT
                )
                a = _tanh(a + x_c)
                _store(new[:, None] + n[None, :], a, here)
                _store(after[:, None] + n[None, :], (1.0 - z) * before + z * a, here)
            goal += members
            _meet(counter, goal)


@triton.jit(do_not_specialize=["steps", "batch"])
def backward(
    d_ys, d_h, weights, states, zr, c, d_gx, counters, steps, batch, hidden,
    PRECISION: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """`d_h` (B, H) float32 holds the state's gradient: zero at first, the initial state's at the end.

    A program reads only its own columns of it, so that the blend of one step follows the gates' map of the
    step after without a wait. The loop runs once more than there are steps: before the first such map there
    is no product, after the last one no blend.
    """
    counter, members = counters + tl.program_id(0), tl.num_programs(1)
    first, stride = tl.program_id(1) * COLS, members * COLS
    square = tl.cast(tl.cdiv(hidden, COLS) * COLS, tl.int64) * hidden  # packed weights: z, r, c
    goal = 0
    for block in range(tl.program_id(0), tl.cdiv(batch, ROWS), tl.num_programs(0)):
        rows = tl.cast(block, tl.int64) * ROWS + tl.arange(0, ROWS)
        inside = rows < batch
        carry = d_h + rows * hidden
        for back in range(steps + 1):
            t = steps - 1 - back
            ok = inside & (t >= 0)
            row = tl.cast(t, tl.int64) * batch + rows
            h, new, both = states + row * hidden, c + row * hidden, zr + row * 2 * hidden
            d_y, d_x = d_ys + row * hidden, d_gx + row * 3 * hidden
            d_x_after = d_x + tl.cast(batch, tl.int64) * 3 * hidden
            depth = tl.where(back > 0, hidden, 0)
            for start in range(first, hidden, stride):  # through the gates' map (r), then the blend
                n = start + tl.arange(0, COLS)
                n_ok = n < hidden
                w = weights + tl.cast(start, tl.int64) * hidden
                here = ok[:, None] & n_ok[None, :]
                own = inside[:, None] & n_ok[None, :]
                d = _load(carry[:, None] + n[None, :], own)
                d += _load(d_y[:, None] + n[None, :], here)
                z = _load(both[:, None] + n[None, :], here)
                a = _load(new[:, None] + n[None, :], here)
                before = _load(h[:, None] + n[None, :], here)
                more, _ = _products(
                    d_x_after + hidden, d_x_after, inside, w + square, w, depth,
                    1, PRECISION, ROWS, COLS, DEPTH, SPLIT,
                )  # fmt: skip
                d += more
                _store(d_x[:, None] + n[None, :], d * (a - before) * z * (1.0 - z), here)
                _store(d_x[:, None] + 2 * hidden + n[None, :], d * z * (1.0 - a * a), here)
                _store(carry[:, None] + n[None, :], d * (1.0 - z), own)
            goal += members
            _meet(counter, goal)
            depth = tl.where(t >= 0, hidden, 0)
            for start in range(first, hidden, stride):  # through the candidate's map and the gates' map (z)
                n = start + tl.arange(0, COLS)
                n_ok = n < hidden
                w = weights + tl.cast(start, tl.int64) * hidden
                here = ok[:, None] & n_ok[None, :]
                d = _load(carry[:, None] + n[None, :], here)
                r = _load(both[:, None] + hidden + n[None, :], here)
                before = _load(h[:, None] + n[None, :], here)
                d_rh, more = _products(
                    d_x + 2 * hidden, d_x, ok, w + 2 * square, w, depth,
                    2, PRECISION, ROWS, COLS, DEPTH, SPLIT,
                )  # fmt: skip
                _store(d_x[:, None] + hidden + n[None, :], d_rh * before * r * (1.0 - r), here)
                _store(carry[:, None] + n[None, :], d + d_rh * r + more, here)
            goal += members
            _meet(counter, goal)
