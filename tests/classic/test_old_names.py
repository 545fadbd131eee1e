"""Every public name of the 2017 library is in canton.classic, or the page names its replacement."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("numpy", reason="canton.classic needs numpy (canton-torch[classic])")
pytest.importorskip("safetensors", reason="canton.classic needs safetensors (canton-torch[classic])")

from canton import classic
from canton.classic import Can

PAGE = Path(__file__).resolve().parents[2] / "docs" / "coming-from-canton-01.md"


def words(text: str) -> list[str]:
    return text.split()


# The names in the modules of 0.1.22, and those of later commits in the recorded files.
NAMES = words("""
    Can Dense LayerNormDense TimeDistributedDense LastDimDense Expansion Lambda Reshape Act Drop
    Conv2D DepthwiseConv2D GroupConv2D ChannelShuffle ShuffleNet Up2D Deconv2D AvgPool2D MaxPool2D ResConv
    PermutedConv2D BatchNorm LayerNorm InstanceNorm Scanner BatchScanner rnn_gen
    RNN_onepass GRU_onepass GRU2_onepass GRU_LN_onepass GRUConv2D_onepass RNN GRU GRU2 GRULN GRUConv2D
    Glimpse2D GRU_Glimpse2D GRU_Glimpse2D_onepass
    get_training_state set_training_state
    loge one_hot_accuracy class_accuracy mean_softmax_cross_entropy softmax_cross_entropy cross_entropy_loss
    binary_cross_entropy_loss sigmoid_cross_entropy_loss mean_sigmoid_cross_entropy_loss
""")
METHODS = words("""
    make_weight make_bias make_variable incan add chain traverse get_weights get_biases get_only_weights
    get_updates set_function get_value_of save_weights load_weights infer summary
    subcans weights biases only_weights variables
""")
REMOVED = words("""
    get_session set_session ph gvi set_variable get_variables_of_scope
    make_update updates inference variables_summary flatten castf32 eps
""")


def rows() -> dict[str, str]:
    """Return the replacement of each old name, from the page's table."""
    table = re.findall(r"^\| (`.*?) \| (.*) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    return {name: now for old, now in table for name in re.findall(r"`([\w.]+)[^`]*`", old)}


def test_every_name_exists() -> None:
    assert not [name for name in NAMES if name not in classic.__all__]
    assert not [name for name in METHODS if not hasattr(Can(), name)]


def test_the_page_lists_every_name() -> None:
    replacement_of = rows()
    assert not [name for name in [*NAMES, *METHODS, *REMOVED] if name not in replacement_of]
    same = {name for name, now in replacement_of.items() if now.startswith("the same")}
    assert same <= {*NAMES, *METHODS}, "the same names exist"
    assert {*NAMES, *METHODS} - same <= {"get_updates"}


def test_removed_names_do_not_exist() -> None:
    assert not [name for name in REMOVED if hasattr(classic, name) or hasattr(Can(), name)]
