"""The byte model in exact arithmetic: the same bits on every instruction set and machine, for compression."""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt

from canton.errors import UserError
from canton.text.engine.abi import EngineCall, array_address, library
from canton.text.engine.engine import PackedModel
from canton.text.model import ByteModel

Frequencies = npt.NDArray[np.int32]


class ExactStream(PackedModel):
    """A text that the model reads from its start, part by part.

    The C++ code computes every sum in one order and rounds every operation, so the frequencies do not depend
    on the processor, the number of threads or the parts.

    Args:
        model: see `PackedModel`.
    """

    kind = "exact_engine"

    def __init__(self, model: ByteModel) -> None:
        super().__init__(model)
        self._logits = np.zeros(256, np.float32)
        self._state = np.zeros(sum(self._hidden), np.float32)
        self._past = np.zeros(self._past_size, np.uint8)
        self._call = EngineCall(
            logits=array_address("logits", self._logits, 256, np.float32),
            state=array_address("state", self._state, len(self._state), np.float32),
            past=array_address("past", self._past, self._past_size, np.uint8),
        )

    def predict(self, text: bytes) -> Frequencies:
        """Read `text` and return the frequencies of the byte after each of its bytes.

        Returns:
            int32 (len(text), 256), at least 1 each; a row sums to 2**FREQUENCY_BITS.

        Raises:
            UserError: the model's logits are not finite.
        """
        out = np.empty((len(text), 256), np.int32)
        self._call.count = len(text)
        count = library().canton_exact_engine_predict(
            ctypes.c_void_p(self._handle),
            ctypes.byref(self._call),
            ctypes.c_char_p(text),
            ctypes.c_void_p(array_address("out", out, out.size, np.int32)),
        )
        if count < len(text):
            raise UserError(f"logits must be finite, got NaN or infinity after {count} bytes")
        return out
