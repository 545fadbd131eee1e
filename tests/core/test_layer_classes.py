"""Layers are classes: isinstance, subclasses, pickle, signatures, docstrings."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest
import torch

import canton
from canton import Recurrent
from canton.core.layer import LayerOptions

BASES = {
    "GRU": canton.GRU,
    "LSTM": canton.LSTM,
    "RNN": canton.RNN,
    "MGU": canton.MGU,
    "MinGRU": canton.MinGRU,
}
LAYERS = [*BASES, *(name for name in canton.__all__ if name.startswith("Conv"))]
every_layer = pytest.mark.parametrize("name", LAYERS)


def make(name: str, **options: object) -> Recurrent:
    layer = getattr(canton, name)(4, 4, *((3,) if name.startswith("Conv") else ()), **options)
    assert isinstance(layer, Recurrent)
    return layer


class Doubled(canton.GRU):
    """A GRU whose outputs are doubled."""

    def forward(self, input, hx=None, **options):
        ys, state = super().forward(input, hx, **options)
        return 2 * ys, state


class Wide(canton.ConvGRU2d):
    def __init__(self, input_size: int, **options: object) -> None:
        super().__init__(input_size, 8 * input_size, 5, **options)


@every_layer
def test_a_layer_is_an_instance_of_its_class(name: str) -> None:
    layer, base = make(name), BASES[name.removeprefix("Conv").rstrip("123d")]
    assert type(layer) is getattr(canton, name)
    assert isinstance(layer, base)
    assert [other for other in BASES.values() if isinstance(layer, other)] == [base]
    assert repr(layer).startswith(f"{name}(")


@every_layer
def test_pickle_and_deepcopy_keep_class_and_weights(name: str) -> None:
    layer = make(name, learn_initial_state=True)
    for twin in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        assert type(twin) is type(layer)
        assert twin.kernel == layer.kernel
        for key, value in layer.state_dict().items():
            assert torch.equal(twin.state_dict()[key], value)


@every_layer
def test_the_signature_and_the_docstring_list_every_argument(name: str) -> None:
    cls = getattr(canton, name)
    parameters = inspect.signature(cls).parameters
    assert set(LayerOptions.__annotations__) <= set(parameters)
    assert not [p for p in parameters.values() if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    section = inspect.getdoc(cls).split("Args:\n")[1].split("\n\n")[0]
    entries = [line.strip().partition(":")[0] for line in section.splitlines() if line[:5].strip()]
    assert [word for entry in entries for word in entry.split(", ")] == list(parameters)


@every_layer
def test_every_option_has_the_default_that_the_signature_shows(name: str) -> None:
    parameters = inspect.signature(getattr(canton, name)).parameters
    defaults = {key: p.default for key, p in parameters.items() if key in LayerOptions.__annotations__}
    assert repr(make(name, **defaults)) == repr(make(name))


def test_subclasses() -> None:
    torch.manual_seed(1)
    layer, xs = Doubled(4, 5, 2, batch_first=True), torch.randn(2, 6, 4)
    torch.manual_seed(1)
    plain = canton.GRU(4, 5, 2, batch_first=True)
    assert torch.equal(layer(xs)[0], 2 * plain(xs)[0])
    assert type(pickle.loads(pickle.dumps(layer))) is Doubled
    assert (Doubled.__doc__ or "").startswith("A GRU whose outputs are doubled.")
    wide = Wide(1, batch_first=True)
    assert isinstance(wide, canton.GRU)
    assert wide(torch.zeros(2, 3, 1, 6, 7))[0].shape == (2, 3, 8, 6, 7)
    assert list(inspect.signature(Wide).parameters) == ["input_size", "options"]


@every_layer
def test_an_unknown_option_is_a_type_error(name: str) -> None:
    with pytest.raises(TypeError, match="recurent_dropout"):
        make(name, recurent_dropout=0.1)
