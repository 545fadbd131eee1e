"""The native writer for a byte model: the same bytes as `generation.write`, with no Python between them."""

from __future__ import annotations

import torch

from canton.cells.gru import GRUCell
from canton.core.recurrent import Recurrent
from canton.errors import UserError
from canton.kernels.cpu import why_not
from canton.text.engine.engine import Writer
from canton.text.engine.spec import TABLES, ByteNet, ByteTable, ByteVotes, GRULayer
from canton.text.model import ByteModel
from canton.text.ngram.mixer import COUNT_STEPS, TOTAL_STEPS, Votes

PRECISIONS = ("float32", "int8")


def native_writer(model: ByteModel, *, precision: str = "float32") -> Writer | None:
    """The model packed for the native kernel; None, in float32, where that cannot run it.

    Args:
        precision: "float32", or "int8": recurrent weights as whole numbers of 8 bits, faster and less exact.

    Raises: UserError for an unknown precision, or int8 where the native kernel cannot run the model.
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision is {precision!r}: it is one of {', '.join(PRECISIONS)}")
    reason = refuses(model)
    if reason is None:
        return Writer(_net(model), precision=precision)
    if precision != "float32":
        raise UserError(f"precision {precision} needs the native kernel, which cannot write here: {reason}")
    return None


def refuses(model: ByteModel) -> str | None:
    """Why the native writer cannot run `model`; None if it can."""
    if reason := why_not():
        return reason
    if model.architecture.cell != "gru":
        return "it knows the gru alone"
    weight = model.logits.weight
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return "it runs float32 weights on the processor"
    if model.architecture.layers > 8 or len(model.architecture.contexts) > 8:
        return "it knows at most 8 layers and 8 contexts"
    if max(len(model.architecture.runs), len(model.architecture.recent_runs)) > TABLES:
        return f"it knows at most {TABLES} kinds of runs"
    return None


def _net(model: ByteModel) -> ByteNet:
    layers = []
    for layer in model.layers:
        assert isinstance(layer, Recurrent)
        cell = layer.cells[0]
        assert isinstance(cell, GRUCell)
        maps = (cell.input_map, cell.hidden_map, cell.candidate_map)
        inputs, gates, candidate = (module.get_parameter("weight") for module in maps)
        bias = cell.input_map.get_parameter("bias") if model.architecture.bias else None
        layers.append(GRULayer(inputs, bias, gates, candidate))
    tables = (table.get_parameter("weight") for table in model.contexts)
    norm, narrow = model.norm, model.narrow
    return ByteNet(
        None if model.embedding is None else model.embedding.weight,
        [(n, table) for (n, _), table in zip(model.architecture.contexts, tables, strict=True)],
        None if norm is None else (norm.weight, norm.bias, norm.eps),
        layers,
        model.architecture.skip,
        None if narrow is None else (narrow.weight, narrow.bias),
        (model.logits.weight, model.logits.bias),
        model.reach,
        _counts(model),
        _recent(model),
        model.architecture.memory,
        COUNT_STEPS,
        TOTAL_STEPS,
    )


def _counts(model: ByteModel) -> tuple[list[ByteTable], ByteVotes] | None:
    if model.counts is None or model.votes is None:
        return None
    pairs = zip(model.counts.runs, model.counts.tables, strict=True)
    return [ByteTable((run.n, run.words), *table) for run, table in pairs], _votes(model.votes)


def _recent(model: ByteModel) -> tuple[list[tuple[int, bool]], ByteVotes] | None:
    if model.reminders is None:
        return None
    return [(run.n, run.words) for run in model.architecture.recent_runs], _votes(model.reminders)


def _votes(votes: Votes) -> ByteVotes:
    return ByteVotes(votes.vote.weight.flatten(), (votes.gate.weight, votes.gate.bias))
