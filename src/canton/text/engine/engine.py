"""Writing bytes with no Python between them: a whole byte model, from a byte to the draw of the next."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from canton.kernels.cpu.abi import library, why_not
from canton.text.engine.spec import (
    CONTEXTS,
    LAYERS,
    TABLES,
    ByteNet,
    ByteTable,
    ByteVotes,
    check,
    reach,
)

_F, _N = ctypes.c_void_p, ctypes.c_int64


class _Layer(ctypes.Structure):
    _fields_ = (("hidden", _N), *((name, _F) for name in ("input", "bias", "gates", "candidate")))


class _Kind(ctypes.Structure):
    _fields_ = (("n", _N), ("words", _N))


class _Table(ctypes.Structure):
    _fields_ = (
        ("kind", _Kind),
        ("rows", _N),
        *((name, _F) for name in ("keys", "followers", "counts", "totals")),
    )


class _Votes(ctypes.Structure):
    _fields_ = (("tables", _N), *((name, _F) for name in ("votes", "gate", "gate_bias")))


class _Model(ctypes.Structure):
    _fields_ = (
        *((name, _N) for name in ("layers", "embedding", "contexts", "skip", "narrow_width", "int8")),
        ("context_bytes", _N * CONTEXTS),
        ("context_rows", _N * CONTEXTS),
        ("context", _F * CONTEXTS),
        *((name, _F) for name in ("embed", "norm_weight", "norm_bias")),
        ("norm_eps", ctypes.c_double),
        *((name, _F) for name in ("narrow", "narrow_bias", "logits", "logits_bias")),
        ("layer", _Layer * LAYERS),
        *((name, _N) for name in ("reach", "memory", "count_count", "total_count")),
        *((name, _F) for name in ("count_steps", "total_steps")),
        ("counts", _Votes),
        ("recent", _Votes),
        ("table", _Table * TABLES),
        ("kind", _Kind * TABLES),
    )


class _Run(ctypes.Structure):
    _fields_ = (
        *((name, _F) for name in ("scores", "state", "past", "out", "uniforms")),
        *((name, _N) for name in ("count", "threads", "written")),
        ("temperature", ctypes.c_double),
        ("top_p", ctypes.c_double),
        *((name, _N) for name in ("top_k", "character", "room")),
        ("next", _F),
        ("fits", _F),
    )


class Written(NamedTuple):
    """What `Writer.write` gives: the bytes, then what the next call goes on from."""

    text: bytes
    logits: npt.NDArray[np.float32]
    states: list[Tensor]
    past: bytes
    character: int | None


class Writer:
    """A byte model packed for writing.

    Args:
        net: its tensors; they are copied, later changes of the model are not seen.
        precision: "float32", or "int8": the layers' weights as whole numbers of 8 bits with a scale for every
            row, the vectors they are applied to as 16 bits. Faster, and a little less exact.

    Raises:
        ValueError: a shape that does not fit, or an unknown precision.
        RuntimeError: the native library is not there.
    """

    def __init__(self, net: ByteNet, *, precision: str = "float32") -> None:
        if reason := why_not():
            raise RuntimeError(reason)
        if precision not in ("float32", "int8"):
            raise ValueError(f"precision is {precision!r}: it is 'float32' or 'int8'")
        self._kept: list[Tensor] = []
        self._hidden = check(net)
        self._carried = reach(net) + (0 if net.recent is None else net.memory)
        self._handle = library().canton_writer_open(ctypes.byref(self._model(net, precision == "int8")))
        weakref.finalize(self, library().canton_writer_close, ctypes.c_void_p(self._handle))

    def write(
        self,
        logits: npt.NDArray[np.floating],
        states: Sequence[Tensor],
        past: bytes,
        uniforms: npt.NDArray[np.floating],
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        character: int | None = None,
        room: int = 0,
        follow: npt.NDArray[np.int8] | None = None,
        fits: npt.NDArray[np.bool_] | None = None,
    ) -> Written:
        """Draw one byte for each of `uniforms`, reading each as it is drawn.

        Args:
            logits: (256,) scores of the first byte.
            states: every layer's state, H numbers in any shape.
            past: the last bytes read, as many as are still looked back at: reach, and the memory if there is
                one. To go on from where the last call ended costs least: else the memory is gone through.
            uniforms: numbers in [0, 1).
            temperature: the logits are divided by it; 0 takes the likeliest byte.
            top_k: draw from so many likeliest bytes; 0 for all.
            top_p: draw from the fewest likeliest bytes that together have this probability.
            character: the state of the automaton `follow` (8, 256); None lets any byte follow any.
            room: how many bytes will be written until the end; `fits` (4, 8, 256) says by room - 1 (at most
                3) and state which bytes still leave room for the rest of their character.

        Raises:
            ValueError: a shape that does not fit; or the logits cease to be finite numbers.
        """
        scores = np.array(logits, np.float32)
        state = torch.cat([s.detach().float().flatten() for s in states]).contiguous().clone()
        if scores.shape != (256,) or len(state) != sum(self._hidden) or len(past) != self._carried:
            raise ValueError(
                f"logits {scores.shape}, states {len(state)}, past {len(past)}: "
                f"they are (256,), {sum(self._hidden)} and {self._carried}"
            )
        if character is not None and (follow is None or fits is None):
            raise ValueError("character is given: follow and fits say what it means")
        draws = np.ascontiguousarray(uniforms, np.float64)
        window = ctypes.create_string_buffer(past, max(len(past), 1))
        out = ctypes.create_string_buffer(max(len(draws), 1))
        table = None if follow is None else np.ascontiguousarray(follow, np.int8)
        room_table = None if fits is None else np.ascontiguousarray(fits, np.uint8)
        run = _Run(
            scores=scores.ctypes.data,
            state=state.data_ptr(),
            past=ctypes.addressof(window),
            out=ctypes.addressof(out),
            uniforms=draws.ctypes.data,
            count=len(draws),
            threads=torch.get_num_threads(),
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            character=-1 if character is None else character,
            room=room,
            next=None if table is None else table.ctypes.data,
            fits=None if room_table is None else room_table.ctypes.data,
        )
        count = library().canton_writer_write(ctypes.c_void_p(self._handle), ctypes.byref(run))
        if count < len(draws):
            raise ValueError(f"after {count} bytes the model's scores are no finite numbers")
        after = [s.view_as(old) for s, old in zip(state.split(self._hidden), states, strict=True)]
        ended = None if character is None else int(run.character)
        return Written(out.raw[: len(draws)], scores, after, window.raw[: len(past)], ended)

    def _model(self, net: ByteNet, int8: bool) -> _Model:
        model = _Model(layers=len(net.layers), contexts=len(net.contexts), skip=net.skip, int8=int8)
        model.embedding = 0 if net.embedding is None else net.embedding.shape[1]
        model.embed = self._keep(net.embedding)
        for k, (n, table) in enumerate(net.contexts):
            model.context_bytes[k], model.context_rows[k] = n, len(table)
            model.context[k] = self._keep(table)
        if net.norm is not None:
            gain, shift, model.norm_eps = net.norm
            model.norm_weight, model.norm_bias = self._keep(gain), self._keep(shift)
        for k, layer in enumerate(net.layers):
            place, rows = model.layer[k], layer.input
            if k == 0 and net.embedding is None:  # a row for each byte
                rows = rows.t() if layer.bias is None else rows.t() + layer.bias
            place.hidden = layer.candidate.shape[0]
            place.input, place.bias = self._keep(rows), self._keep(layer.bias)
            place.gates, place.candidate = self._keep(layer.gates), self._keep(layer.candidate)
        if net.narrow is not None:
            model.narrow, model.narrow_bias = self._keep(net.narrow[0]), self._keep(net.narrow[1])
            model.narrow_width = len(net.narrow[1])
        model.logits, model.logits_bias = self._keep(net.logits[0]), self._keep(net.logits[1])
        model.reach, model.memory = reach(net), self._carried - reach(net)
        model.count_count, model.total_count = len(net.count_steps), len(net.total_steps)
        steps = (torch.tensor(edges) for edges in (net.count_steps, net.total_steps))
        model.count_steps, model.total_steps = (self._keep(edges, torch.int32) for edges in steps)
        if net.counts is not None:
            model.counts = self._votes(net.counts[1])
            for k, known in enumerate(net.counts[0]):
                self._table(model.table[k], known)
        if net.recent is not None:
            model.recent = self._votes(net.recent[1])
            for k, kind in enumerate(net.recent[0]):
                model.kind[k] = _Kind(*kind)
        return model

    def _votes(self, votes: ByteVotes) -> _Votes:
        weight, bias = votes.gate
        return _Votes(len(bias), self._keep(votes.votes), self._keep(weight), self._keep(bias))

    def _table(self, place: _Table, table: ByteTable) -> None:
        place.kind, place.rows = _Kind(*table.kind), len(table.keys)
        place.keys = self._keep(table.keys, torch.int64)
        place.followers = self._keep(table.followers, torch.uint8)
        place.counts = self._keep(table.counts, torch.int32)
        place.totals = self._keep(table.totals, torch.int32)

    def _keep(self, tensor: Tensor | None, dtype: torch.dtype = torch.float32) -> int | None:
        if tensor is None:
            return None
        self._kept.append(tensor.detach().to("cpu", dtype, copy=True).contiguous())
        return self._kept[-1].data_ptr()
