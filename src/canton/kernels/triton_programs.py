"""The Triton programs of the dense reset-before GRU and their launches. Needs Triton; see `triton_gru`."""

# mypy: ignore-errors
# Triton's language is not Python's: a compiler of its own reads it, where annotations mean other things.

import torch
import triton
import triton.language as tl


@triton.jit
def _product(
    a,
    a_row,
    a_ok,
    w,
    n,
    n_ok,
    w_stride_n,
    w_stride_k,
    depth,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Rows of `a` against columns `n` of the weight: sum over k of a[row, k] w[n, k], in float32."""
    total = tl.zeros((ROWS, COLS), tl.float32)
    for start in range(0, depth, DEPTH):
        k = start + tl.arange(0, DEPTH)
        left = tl.load(a + a_row[:, None] + k[None, :], mask=a_ok[:, None] & (k < depth)[None, :], other=0.0)
        right = tl.load(
            w + n[None, :] * w_stride_n + k[:, None] * w_stride_k,
            mask=n_ok[None, :] & (k < depth)[:, None],
            other=0.0,
        )
        total += tl.dot(left, right, input_precision="ieee")
    return total


@triton.jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def _tanh(x):
    e = tl.exp(-2.0 * tl.abs(x))  # never overflows
    y = (1.0 - e) / (1.0 + e)
    return tl.where(x < 0, -y, y)


@triton.jit
def _forward(
    gx, gates, candidate, states, zr, c, rh, steps, batch, hidden,
    ROWS: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    ok = rows < batch
    for t in range(steps):
        step = tl.cast(t, tl.int64) * batch
        row3, row2, row1 = (step + rows) * 3 * hidden, (step + rows) * 2 * hidden, (step + rows) * hidden
        after = (step + batch + rows) * hidden
        for start in range(0, 2 * hidden, COLS):
            n = start + tl.arange(0, COLS)
            n_ok = n < 2 * hidden
            here = ok[:, None] & n_ok[None, :]
            a = _product(states, row1, ok, gates, n, n_ok, hidden, 1, hidden, ROWS, COLS, DEPTH)
            a += tl.load(gx + row3[:, None] + n[None, :], mask=here, other=0.0).to(tl.float32)
            s = _sigmoid(a)
            tl.store(zr + row2[:, None] + n[None, :], s.to(zr.dtype.element_ty), mask=here)
            m = n - hidden  # the reset gate's half also gives r * h
            reset = here & (m >= 0)[None, :]
            h = tl.load(states + row1[:, None] + m[None, :], mask=reset, other=0.0).to(tl.float32)
            tl.store(rh + row1[:, None] + m[None, :], (s * h).to(rh.dtype.element_ty), mask=reset)
        tl.debug_barrier()
        for start in range(0, hidden, COLS):
            n = start + tl.arange(0, COLS)
            n_ok = n < hidden
            here = ok[:, None] & n_ok[None, :]
            a = _product(rh, row1, ok, candidate, n, n_ok, hidden, 1, hidden, ROWS, COLS, DEPTH)
            a += tl.load(gx + row3[:, None] + 2 * hidden + n[None, :], mask=here, other=0.0).to(tl.float32)
            new = _tanh(a)
            z = tl.load(zr + row2[:, None] + n[None, :], mask=here, other=0.0).to(tl.float32)
            h = tl.load(states + row1[:, None] + n[None, :], mask=here, other=0.0).to(tl.float32)
            tl.store(c + row1[:, None] + n[None, :], new.to(c.dtype.element_ty), mask=here)
            blend = ((1.0 - z) * h + z * new).to(states.dtype.element_ty)
            tl.store(states + after[:, None] + n[None, :], blend, mask=here)
        tl.debug_barrier()


@triton.jit
def _backward(
    d_ys, d_h, gates, candidate, states, zr, c, d_gx, steps, batch, hidden,
    ROWS: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """`d_h` (B, H) float32 holds the state's gradient: zero at first, the initial state's at the end."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    ok = rows < batch
    row0 = rows * hidden
    for back in range(steps):
        t = steps - 1 - back
        step = tl.cast(t, tl.int64) * batch
        row3, row2, row1 = (step + rows) * 3 * hidden, (step + rows) * 2 * hidden, (step + rows) * hidden
        for start in range(0, hidden, COLS):  # through the blend
            n = start + tl.arange(0, COLS)
            here = ok[:, None] & (n < hidden)[None, :]
            d = tl.load(d_h + row0[:, None] + n[None, :], mask=here, other=0.0)
            d += tl.load(d_ys + row1[:, None] + n[None, :], mask=here, other=0.0).to(tl.float32)
            z = tl.load(zr + row2[:, None] + n[None, :], mask=here, other=0.0).to(tl.float32)
            new = tl.load(c + row1[:, None] + n[None, :], mask=here, other=0.0).to(tl.float32)
            h = tl.load(states + row1[:, None] + n[None, :], mask=here, other=0.0).to(tl.float32)
            d_z, d_c = d * (new - h) * z * (1.0 - z), d * z * (1.0 - new * new)
            tl.store(d_gx + row3[:, None] + n[None, :], d_z.to(d_gx.dtype.element_ty), mask=here)
            tl.store(d_gx + row3[:, None] + 2 * hidden + n[None, :], d_c.to(d_gx.dtype.element_ty), mask=here)
            tl.store(d_h + row0[:, None] + n[None, :], d * (1.0 - z), mask=here)
        tl.debug_barrier()
        for start in range(0, hidden, COLS):  # through the candidate's map and the reset gate
            n = start + tl.arange(0, COLS)
            n_ok = n < hidden
            here = ok[:, None] & n_ok[None, :]
            d_rh = _product(
                d_gx, row3 + 2 * hidden, ok, candidate, n, n_ok, 1, hidden, hidden, ROWS, COLS, DEPTH
            )
            r = tl.load(zr + row2[:, None] + hidden + n[None, :], mask=here, other=0.0).to(tl.float32)
            h = tl.load(states + row1[:, None] + n[None, :], mask=here, other=0.0).to(tl.float32)
            d_r = d_rh * h * r * (1.0 - r)
            tl.store(d_gx + row3[:, None] + hidden + n[None, :], d_r.to(d_gx.dtype.element_ty), mask=here)
            d = tl.load(d_h + row0[:, None] + n[None, :], mask=here, other=0.0)
            tl.store(d_h + row0[:, None] + n[None, :], d + d_rh * r, mask=here)
        tl.debug_barrier()
        for start in range(0, hidden, COLS):  # through the gates' map
            n = start + tl.arange(0, COLS)
            n_ok = n < hidden
            here = ok[:, None] & n_ok[None, :]
            more = _product(d_gx, row3, ok, gates, n, n_ok, 1, hidden, 2 * hidden, ROWS, COLS, DEPTH)
            d = tl.load(d_h + row0[:, None] + n[None, :], mask=here, other=0.0)
            tl.store(d_h + row0[:, None] + n[None, :], d + more, mask=here)
        tl.debug_barrier()


def _blocks(batch: int, hidden: int) -> tuple[int, int, int]:
    rows = 16 if batch <= 2048 else 32  # few rows a program keep many multiprocessors busy
    block = min(64, max(16, triton.next_power_of_2(hidden)))
    return rows, block, block


def forward(gx, h0, gates, candidate):
    """The states (T + 1, B, H), the first one first, and what the backward pass needs.

    That is z and r (T, B, 2H), c and r * h (T, B, H): with the states 5H numbers a row and step.
    """
    steps, batch, hidden = gx.shape[0], gx.shape[1], h0.shape[1]
    gx, gates, candidate = (t.detach().contiguous() for t in (gx, gates, candidate))
    states = gx.new_empty(steps + 1, batch, hidden)
    states[0] = h0.detach()
    c, rh = gx.new_empty(steps, batch, hidden), gx.new_empty(steps, batch, hidden)
    zr = gx.new_empty(steps, batch, 2 * hidden)
    rows, cols, depth = _blocks(batch, hidden)
    _forward[(triton.cdiv(batch, rows),)](
        gx, gates, candidate, states, zr, c, rh, steps, batch, hidden, ROWS=rows, COLS=cols, DEPTH=depth
    )
    return states, zr, c, rh


def backward(d_ys, gates, candidate, states, zr, c):
    """Gradients of gx (T, B, 3H) and of the initial state (B, H)."""
    steps, batch, hidden = c.shape
    gates, candidate = gates.detach().contiguous(), candidate.detach().contiguous()
    d_gx = c.new_empty(steps, batch, 3 * hidden)
    d_h = torch.zeros(batch, hidden, dtype=torch.float32, device=c.device)
    rows, cols, depth = _blocks(batch, hidden)
    _backward[(triton.cdiv(batch, rows),)](
        d_ys.contiguous(), d_h, gates, candidate, states, zr, c, d_gx, steps, batch, hidden,
        ROWS=rows, COLS=cols, DEPTH=depth,
    )  # fmt: skip
    return d_gx, d_h.to(c.dtype)
