"""The byte model with every cell, and the article's model."""

from __future__ import annotations

import pytest
import torch

from canton.errors import UserError
from canton.text import ARTICLE, Architecture, ByteModel
from canton.text.model import CELLS
from tolerances import assert_close

SHAPES = [
    Architecture(
        cell=cell,
        hidden_size=10,
        num_layers=layers,
        embedding_size=6,
        contexts=contexts,
        head_size=head,
        dropout=0.3,
    )
    for cell in CELLS
    for layers, contexts, head in ((1, (), 0), (2, ((2, 8), (4, 16)), 5))
] + [ARTICLE.model]


@pytest.mark.parametrize("architecture", SHAPES, ids=str)
def test_chunks_equal_one_run(architecture: Architecture) -> None:
    model = ByteModel(architecture).eval()
    torch.nn.init.normal_(model.logits.bias)
    for table in model.contexts:
        torch.nn.init.normal_(table.weight)
    read = torch.randint(0, 256, (23, 3))
    whole, last = model(read)
    state, chunks = None, []
    for chunk in read.split([1, 2, 0 + 3, 7, 10]):
        logits, state = model(chunk, state)
        chunks.append(logits)
    assert_close(torch.cat(chunks), whole, "logits")
    for a, b in zip(state, last, strict=True):
        assert_close(a, b, "state")
    again, _ = model(read, model.initial_state(3))
    assert_close(again, whole, "from the start state")


@pytest.mark.parametrize("architecture", SHAPES[:4], ids=str)
def test_the_model_is_causal_and_rows_are_independent(architecture: Architecture) -> None:
    model = ByteModel(architecture).eval()
    read = torch.randint(0, 256, (9, 2))
    other = read.clone()
    other[5:, 0] = (other[5:, 0] + 1) % 256
    a, b = model(read)[0], model(other)[0]
    assert torch.equal(a[:5], b[:5])
    assert torch.equal(a[:, 1], b[:, 1])
    assert not torch.equal(a[5:, 0], b[5:, 0])


def test_a_context_depends_on_its_bytes_only() -> None:
    """The same two bytes have the same embedding at every position."""
    a = Architecture(
        hidden_size=4,
        embedding_size=5,
        contexts=((2, 4096),),
        ngram_orders=(),
        ngram_words=(),
        history_orders=(),
        history_words=(),
        dropout=0.0,
    )
    model = ByteModel(a).eval()
    torch.nn.init.normal_(model.contexts[0].weight)
    read = torch.tensor([7, 1, 2, 9, 1, 2, 2, 1])[:, None]
    window = torch.cat([torch.zeros(1, 1, dtype=torch.long), read])
    xs = model._embed(window)[:, 0]
    assert torch.equal(xs[2], xs[5])  # 1 2 and 1 2
    assert not torch.allclose(xs[6], xs[2])  # 2 2
    assert not torch.allclose(xs[7], xs[1])  # 2 1, 7 1


def test_the_articles_model_has_seven_weights() -> None:
    model = ByteModel(ARTICLE.model)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert sorted(shapes.values()) == sorted(
        [(768, 256), (512, 256), (256, 256), (64, 256), (64,), (256, 64), (256,)]
    ), shapes  # z and r share one array here, the input's weights another: 3 x (256 + 256) x 256 in all


def test_the_articles_model_follows_the_articles_equations() -> None:
    model = ByteModel(ARTICLE.model).double().eval()
    read = torch.randint(0, 256, (6, 1))
    cell = model.layers[0].cells[0]
    x_map, zr_map, c_map = cell.input_map.weight, cell.hidden_map.weight, cell.candidate_map.weight
    h = torch.zeros(256, dtype=torch.float64)
    for t in range(6):
        x = x_map[:, read[t, 0]]
        z = torch.sigmoid(x[:256] + zr_map[:256] @ h)
        r = torch.sigmoid(x[256:512] + zr_map[256:] @ h)
        c = torch.tanh(x[512:] + c_map @ (r * h))
        h = (1 - z) * h + z * c
        middle = torch.nn.functional.elu(model.head.weight @ h + model.head.bias)
        expected = model.logits.weight @ middle + model.logits.bias
        assert_close(model(read[: t + 1])[0][-1, 0], expected, f"step {t}")


@pytest.mark.parametrize(
    "wrong",
    [
        {"cell": "gruu"},
        {"hidden_size": 0},
        {"num_layers": 0},
        {"embedding_size": -1},
        {"dropout": 1.0},
        {"embedding_size": 0},
        {"contexts": ((1, 5),)},
    ],
)
def test_an_invalid_architecture_raises(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        Architecture(**wrong)  # type: ignore[arg-type]


def test_json_gives_the_architecture_back() -> None:
    import json

    for architecture in SHAPES:
        assert Architecture.from_json(json.loads(json.dumps(architecture.to_json()))) == architecture
    for damaged in (
        None,
        {},
        {**ARTICLE.model.to_json(), "x": 1},
        {**ARTICLE.model.to_json(), "hidden_size": "9"},
        {**ARTICLE.model.to_json(), "contexts": 3},
    ):
        with pytest.raises(UserError):
            Architecture.from_json(damaged)
