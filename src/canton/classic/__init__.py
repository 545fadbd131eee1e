"""The interface of the 2017 library, Canton 0.1.22, over PyTorch: ``from canton.classic import *``.

Names and meanings are the old ones: images are (batch, height, width, channels), sequences (batch, time,
...), weights have TensorFlow's layout. Faults of the original are kept and documented, so that old weights
give the same results.
"""

from canton.errors import require

for _package in ("numpy", "safetensors"):
    require(_package, extra="classic")

from canton.classic.adam import TF1Adam  # noqa: E402
from canton.classic.blocks import PermutedConv2D, ResConv, ShuffleNet  # noqa: E402
from canton.classic.can import Can  # noqa: E402
from canton.classic.convolutions import Conv2D, Deconv2D, DepthwiseConv2D, GroupConv2D  # noqa: E402
from canton.classic.dense import (  # noqa: E402
    Dense,
    Expansion,
    LastDimDense,
    LayerNormDense,
    TimeDistributedDense,
)
from canton.classic.glimpse import Glimpse2D, GRU_Glimpse2D, GRU_Glimpse2D_onepass  # noqa: E402
from canton.classic.images import AvgPool2D, ChannelShuffle, MaxPool2D, Up2D  # noqa: E402
from canton.classic.norms import BatchNorm, InstanceNorm, LayerNorm  # noqa: E402
from canton.classic.objectives import (  # noqa: E402
    binary_cross_entropy_loss,
    class_accuracy,
    cross_entropy_loss,
    loge,
    mean_sigmoid_cross_entropy_loss,
    mean_softmax_cross_entropy,
    one_hot_accuracy,
    sigmoid_cross_entropy_loss,
    softmax_cross_entropy,
)
from canton.classic.pointwise import Act, Drop, Lambda, Reshape  # noqa: E402
from canton.classic.recurrent import (  # noqa: E402
    GRU,
    GRU2,
    GRULN,
    RNN,
    GRU2_onepass,
    GRU_LN_onepass,
    GRU_onepass,
    GRUConv2D,
    GRUConv2D_onepass,
    RNN_onepass,
)
from canton.classic.scanning import BatchScanner, Scanner, rnn_gen  # noqa: E402
from canton.classic.training_state import get_training_state, set_training_state  # noqa: E402

__all__ = [
    "GRU",
    "GRU2",
    "GRULN",
    "RNN",
    "Act",
    "AvgPool2D",
    "BatchNorm",
    "BatchScanner",
    "Can",
    "ChannelShuffle",
    "Conv2D",
    "Deconv2D",
    "Dense",
    "DepthwiseConv2D",
    "Drop",
    "Expansion",
    "GRU2_onepass",
    "GRUConv2D",
    "GRUConv2D_onepass",
    "GRU_Glimpse2D",
    "GRU_Glimpse2D_onepass",
    "GRU_LN_onepass",
    "GRU_onepass",
    "Glimpse2D",
    "GroupConv2D",
    "InstanceNorm",
    "Lambda",
    "LastDimDense",
    "LayerNorm",
    "LayerNormDense",
    "MaxPool2D",
    "PermutedConv2D",
    "RNN_onepass",
    "ResConv",
    "Reshape",
    "Scanner",
    "ShuffleNet",
    "TF1Adam",
    "TimeDistributedDense",
    "Up2D",
    "binary_cross_entropy_loss",
    "class_accuracy",
    "cross_entropy_loss",
    "get_training_state",
    "loge",
    "mean_sigmoid_cross_entropy_loss",
    "mean_softmax_cross_entropy",
    "one_hot_accuracy",
    "rnn_gen",
    "set_training_state",
    "sigmoid_cross_entropy_loss",
    "softmax_cross_entropy",
]
