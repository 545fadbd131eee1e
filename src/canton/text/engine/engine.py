"""The C++ byte generator: it samples bytes and runs the model on them without Python in the loop."""

from __future__ import annotations

import ctypes
import math
import weakref

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from canton.cells.gru import GRUCell
from canton.core.recurrent import Recurrent
from canton.errors import UserError
from canton.kernels.cpu.address import address
from canton.kernels.support import subclass_reason
from canton.text import utf8
from canton.text.config import Sampling
from canton.text.engine.abi import (
    MAX_CONTEXTS,
    MAX_LAYERS,
    MAX_TABLES,
    EngineCall,
    EngineKey,
    EngineLayer,
    EngineMixer,
    EngineModel,
    EngineTable,
    array_address,
    library,
    load,
)
from canton.text.model import ByteModel, State
from canton.text.ngram.keys import NgramKind
from canton.text.ngram.mixer import COUNT_EDGES, TOTAL_EDGES, NgramMixer
from canton.text.ngram.table import NgramTable
from canton.text.sampling import bias_vector
from canton.text.types import MAX_FOLLOWERS, SampledBytes

PRECISIONS = ("float32", "int8")
MAX_HISTORY_SIZE = 1 << 24


def build_engine(model: ByteModel, *, precision: str = "float32") -> Engine | None:
    """Return `model` packed for the engine, or None in float32 where the engine cannot run it.

    Args:
        precision: "float32", or "int8": the layers' weights as int8. Faster and less exact.

    Raises:
        UserError: an unknown precision, or int8 for a model that the engine cannot run.
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    reason = unsupported_reason(model)
    if reason is None:
        return Engine(model, precision=precision)
    if precision != "float32":
        raise UserError(f"precision {precision} needs the C++ engine, which cannot run this model: {reason}")
    return None


def unsupported_reason(model: ByteModel) -> str | None:
    """Return why the engine cannot run `model`, None if it can."""
    loaded, architecture = load(), model.architecture
    if isinstance(loaded, str):
        return loaded
    if architecture.cell != "gru":
        return f"cell must be gru, got {architecture.cell}"
    weight = model.logits.weight
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return f"weights must be float32 on the CPU, got {weight.dtype} on {weight.device}"
    if reason := subclass_reason(model.parameters()):
        return reason
    sizes = {
        "num_layers": (architecture.num_layers, MAX_LAYERS),
        "contexts": (len(architecture.contexts), MAX_CONTEXTS),
        "ngram_orders and ngram_words": (len(architecture.ngram_kinds), MAX_TABLES),
        "history_orders and history_words": (len(architecture.history_kinds), MAX_TABLES),
        "history_size": (architecture.history_size, MAX_HISTORY_SIZE),
    }
    for name, (size, maximum) in sizes.items():
        if size > maximum:
            return f"{name} must be <= {maximum}, got {size}"
    return None


class PackedModel:
    """A byte model packed for the library. One call at a time: the calls share their working memory.

    Args:
        model: its tensors are copied; later changes of the model have no effect.
        precision: "float32", or "int8": the layers' weights as int8 with one scale for each row, the vectors
            that they multiply as int16.

    Raises:
        UserError: the engine cannot run the model.
        ValueError: a tensor whose shape does not match the architecture.
    """

    kind = "engine"
    """The library opens and closes it with canton_<kind>_open and canton_<kind>_close."""

    def __init__(self, model: ByteModel, *, precision: str = "float32") -> None:
        if reason := unsupported_reason(model):
            raise UserError(reason)
        self._tensors: list[Tensor] = []
        architecture = model.architecture
        self._hidden = [architecture.hidden_size] * architecture.num_layers
        self._past_size = model.past_size
        packed = self._pack(model)
        packed.int8 = precision == "int8"
        self._handle = getattr(library(), f"canton_{self.kind}_open")(ctypes.byref(packed))
        weakref.finalize(self, getattr(library(), f"canton_{self.kind}_close"), ctypes.c_void_p(self._handle))

    def _pack(self, model: ByteModel) -> EngineModel:
        """Copy the model's tensors and return their addresses."""
        a, E, H = model.architecture, model.architecture.embedding_size, model.architecture.hidden_size
        packed = EngineModel(layers=a.num_layers, embedding=E, contexts=len(a.contexts), skip=a.skip)
        if model.embedding is not None:
            packed.embed = self._copy("embedding", model.embedding.weight, 256, E)
        for k, ((n, rows), table) in enumerate(zip(a.contexts, model.contexts, strict=True)):
            packed.context_bytes[k], packed.context_rows[k] = n, rows
            packed.context[k] = self._copy("context", table.get_parameter("weight"), rows, E)
        if model.norm is not None:
            packed.norm_weight = self._copy("norm", model.norm.weight, E)
            packed.norm_bias = self._copy("norm", model.norm.bias, E)
            packed.norm_eps = model.norm.eps
        for k, layer in enumerate(model.layers):
            if not isinstance(layer, Recurrent):
                raise TypeError(f"layers[{k}] must be a Recurrent, got {type(layer).__name__}")
            packed.layer[k] = self._layer(layer, (H + E if a.skip else H) if k else E, H, bias=a.bias)
        width = head_width = a.num_layers * H + E if a.skip else H
        if model.head is not None:
            packed.head_size = width = a.head_size
            packed.head = self._copy("head", model.head.weight, width, head_width)
            packed.head_bias = self._copy("head", model.head.bias, width)
        packed.logits = self._copy("logits", model.logits.weight, 256, width)
        packed.logits_bias = self._copy("logits", model.logits.bias, 256)
        packed.lookback, packed.history_size = model.lookback, model.past_size - model.lookback
        packed.count_edges_size, packed.total_edges_size = len(COUNT_EDGES), len(TOTAL_EDGES)
        packed.count_edges = self._copy(
            "edges", torch.tensor(COUNT_EDGES), len(COUNT_EDGES), dtype=torch.int32
        )
        packed.total_edges = self._copy(
            "edges", torch.tensor(TOTAL_EDGES), len(TOTAL_EDGES), dtype=torch.int32
        )
        if model.ngrams is not None and model.ngram_mixer is not None:
            packed.counts_mixer = self._mixer(model.ngram_mixer, len(a.ngram_kinds), head_width)
            for k, (kind, counted) in enumerate(zip(a.ngram_kinds, model.ngrams.tables, strict=True)):
                packed.table[k] = self._table(kind, counted)
        if model.history_mixer is not None:
            packed.history_mixer = self._mixer(model.history_mixer, len(a.history_kinds), head_width)
            for k, kind in enumerate(a.history_kinds):
                packed.history_key[k] = EngineKey(kind.n, kind.words)
        return packed

    def _layer(self, layer: Recurrent, below: int, H: int, *, bias: bool) -> EngineLayer:
        cell = layer.cells[0]
        if not isinstance(cell, GRUCell):
            raise TypeError(f"cells[0] must be a GRUCell, got {type(cell).__name__}")
        maps = (cell.input_map, cell.hidden_map, cell.candidate_map)
        inputs, gates, candidate = (module.get_parameter("weight") for module in maps)
        added = cell.input_map.get_parameter("bias") if bias else None
        packed = EngineLayer(hidden=H)
        if below:
            packed.input = self._copy("input", inputs, 3 * H, below)
            packed.bias = None if added is None else self._copy("bias", added, 3 * H)
        else:  # plain bytes: each byte selects a row
            rows = inputs.t() if added is None else inputs.t() + added
            packed.input = self._copy("input", rows, 256, 3 * H)
        packed.gates = self._copy("gates", gates, 2 * H, H)
        packed.candidate = self._copy("candidate", candidate, H, H)
        return packed

    def _table(self, kind: NgramKind, table: NgramTable) -> EngineTable:
        rows = len(table.keys)
        return EngineTable(
            EngineKey(kind.n, kind.words),
            rows,
            self._copy("keys", table.keys, rows, dtype=torch.int64),
            self._copy("followers", table.followers, rows, MAX_FOLLOWERS, dtype=torch.uint8),
            self._copy("counts", table.counts, rows, MAX_FOLLOWERS, dtype=torch.int32),
            self._copy("totals", table.totals, rows, dtype=torch.int32),
        )

    def _mixer(self, mixer: NgramMixer, tables: int, head_width: int) -> EngineMixer:
        rows = tables * (tables + 1) * (len(TOTAL_EDGES) + 1) * (len(COUNT_EDGES) + 1)
        return EngineMixer(
            tables,
            self._copy("mixer", mixer.scores.weight, rows, 1),
            self._copy("gate", mixer.gate.weight, tables, head_width),
            self._copy("gate", mixer.gate.bias, tables),
        )

    def _copy(self, name: str, tensor: Tensor, *shape: int, dtype: torch.dtype = torch.float32) -> int:
        """Keep a copy of `tensor` and return its address."""
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must have the shape {shape}, got {tuple(tensor.shape)}")
        self._tensors.append(tensor.detach().to("cpu", dtype, copy=True).contiguous())
        return address(name, self._tensors[-1], math.prod(shape), dtype)


class Engine(PackedModel):
    """A byte model packed for generation, see `PackedModel`."""

    def generate(
        self,
        logits: npt.NDArray[np.floating],
        state: State,
        uniforms: npt.NDArray[np.floating],
        *,
        sampling: Sampling | None = None,
        recent: bytes = b"",
        utf8_state: int | None = None,
        remaining: int = 0,
    ) -> SampledBytes:
        """Sample one byte for each of `uniforms`, and run the model on every byte.

        `canton.text.generate.sample_bytes` in C++. A call that continues the previous one is fastest, because
        the engine still has its history.

        Args:
            logits: (256,) scores of the first byte.
            state: state of the model, batch size 1.
            uniforms: numbers in [0, 1).
            sampling: how bytes are sampled. None: the defaults.
            recent: the text so far, at least its last `repetition_window` bytes.
            utf8_state: state of the automaton in `canton.text.utf8`; None allows any byte.
            remaining: bytes up to the end of the text; with `utf8_state`, at least the length of `uniforms`.

        Raises:
            ValueError: an argument of the wrong shape.
            UserError: logits that stop being finite.
        """
        scores = np.array(logits, np.float32, order="C")
        past, *hidden = state
        past_bytes = past.detach().cpu().to(torch.uint8).flatten().clone()
        flat = torch.cat([h.detach().float().flatten() for h in hidden]).contiguous().clone()
        for name, size, expected in (
            ("logits", scores.size, 256),
            ("state[0]", len(past_bytes), self._past_size),
            ("state[1:]", len(flat), sum(self._hidden)),
        ):
            if size != expected:
                raise ValueError(f"{name} must have {expected} elements, got {size}")
        if utf8_state is not None and remaining < len(uniforms):
            raise ValueError(f"remaining must be >= {len(uniforms)}, got {remaining}")
        draws, out = np.ascontiguousarray(uniforms, np.float64), np.empty(len(uniforms), np.uint8)
        fits, bits = utf8.FITS.view(np.uint8), np.empty(len(uniforms), np.float32)
        sampling = sampling or Sampling()
        bias = bias_vector(sampling) if sampling.logit_bias else None
        window = np.frombuffer(recent[-sampling.repetition_window :], np.uint8)
        call = EngineCall(
            logits=array_address("logits", scores, 256, np.float32),
            state=address("state[1:]", flat, sum(self._hidden)),
            past=address("state[0]", past_bytes, self._past_size, torch.uint8),
            out=array_address("out", out, len(draws), np.uint8),
            uniforms=array_address("uniforms", draws, len(draws), np.float64),
            count=len(draws),
            bits=bits.ctypes.data,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            logit_bias=None if bias is None else bias.ctypes.data,
            recent=window.ctypes.data,
            recent_size=len(window),
            repetition_window=sampling.repetition_window,
            top_k=sampling.top_k,
            utf8_state=-1 if utf8_state is None else utf8_state,
            remaining=remaining,
            utf8_next=array_address("utf8.NEXT", utf8.NEXT, 8 * 256, np.int8),
            utf8_fits=array_address("utf8.FITS", fits, 4 * 8 * 256, np.uint8),
        )
        count = library().canton_engine_generate(ctypes.c_void_p(self._handle), ctypes.byref(call))
        if count < len(draws):
            raise UserError(f"logits must be finite, got NaN or infinity after {count} bytes")
        parts = zip(flat.split(self._hidden), hidden, strict=True)
        after = (past_bytes.view_as(past), *(part.view_as(old) for part, old in parts))
        utf8_after = None if utf8_state is None else int(call.utf8_state)
        return SampledBytes(out.tobytes(), bits, scores, after, utf8_after)
