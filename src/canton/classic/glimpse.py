"""Glimpse2D reads an image through Gaussian windows; GRU_Glimpse2D moves them by its state."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from canton.classic.can import Can
from canton.classic.dense import Dense
from canton.classic.recurrent import GRU_onepass
from canton.classic.scanning import rnn_gen


class Glimpse2D(Can):
    """Weighted sums of images: [(B, H, W, C), offsets (B, 2)] -> (B, num_receptors, C).

    The weight of a pixel in a window is exp(-distance^2 / var) / (pi var), var = softplus(stddevs)^2. The
    distance is from the window's mean plus offset. Means and offsets are (down, right) in pixels, relative to
    the image's centre. The windows are initialised on a square grid.

    Args:
        num_receptors: number of windows.
        pixel_span: approximate width of the grid, in pixels.

    Raises:
        NameError: num_receptors is below 1.
        ZeroDivisionError: num_receptors is 1, as in the original.
    """

    def __init__(self, num_receptors: int, pixel_span: float = 20) -> None:
        super().__init__()
        if num_receptors < 1:
            raise NameError(f"num_receptors should be greater than 0, got {num_receptors}")
        self.num_receptors, self.pixel_span = num_receptors, pixel_span
        side = math.isqrt(num_receptors - 1) + 1
        step = 1 / (side - 1)
        cells = np.arange(num_receptors)
        grid = (np.stack([cells // side, cells % side], 1) / max(side - 1, 1)).astype(np.float32)
        self.means = self._make_parameter(
            (grid - np.float32(0.5)) * np.float32(pixel_span) * np.float32(0.8), "means"
        )
        deviations = np.full((num_receptors, 1), pixel_span * 0.5 * step, np.float32)
        self.stddevs = self._make_parameter(deviations, "stddevs")

    def _make_parameter(
        self, start: np.ndarray[tuple[int, ...], np.dtype[np.float32]], name: str
    ) -> nn.Parameter:
        """Create a weight that, as in the original, is in neither `biases` nor `only_weights`."""
        weight = nn.Parameter(torch.from_numpy(start).to(torch.get_default_dtype()))
        self._register(weight, name, ("weights",))
        return weight

    def shifted_means_given_offsets(self, offsets: Tensor) -> Tensor:
        """Return the windows' means, (B, num_receptors, 2)."""
        return self.means[None] + offsets[:, None]

    def variances(self) -> Tensor:
        """Return the windows' var, (num_receptors, 1)."""
        return F.softplus(self.stddevs) ** 2

    def forward(self, i: list[Tensor]) -> Tensor:
        images, offsets = i
        if offsets.dim() != 2 or offsets.shape[1] != 2:
            raise ValueError(f"offsets must be (batch, 2), got the shape {tuple(offsets.shape)}")
        means, inverse = self.shifted_means_given_offsets(offsets), 1 / self.variances()[None]
        height, width = images.shape[1:3]
        down = torch.arange(height, device=images.device, dtype=images.dtype) - (height - 1) / 2
        right = torch.arange(width, device=images.device, dtype=images.dtype) - (width - 1) / 2
        rows = torch.exp(-((means[..., :1] - down) ** 2) * inverse) * inverse / math.pi
        columns = torch.exp(-((means[..., 1:] - right) ** 2) * inverse)
        return torch.einsum("bhwc,bnh,bnw->bnc", images, rows, columns)


class GRU_Glimpse2D_onepass(Can):
    """One glimpse and one GRU step: [hidden (B, num_h), images (B, H, W, channels)] -> hidden (B, num_h).

    Args:
        num_h: channels of the hidden state, which gives the offset.
        num_receptors, pixel_span: as for `Glimpse2D`; the offset is at most pixel_span / 2 per axis.
        channels: channels of the images.
    """

    def __init__(self, num_h: int, num_receptors: int, channels: int, pixel_span: float = 20) -> None:
        super().__init__()
        self.channels, self.num_h = channels, num_h
        self.num_receptors, self.pixel_span = num_receptors, pixel_span
        self.glimpse2d = Glimpse2D(num_receptors, pixel_span)
        self.gru_onepass = GRU_onepass(channels * num_receptors, num_h)
        self.hidden2offset = Dense(num_h, 2)
        self.incan([self.glimpse2d, self.gru_onepass, self.hidden2offset])

    def get_offset(self, hidden: Tensor) -> Tensor:
        """Return the offset, (B, 2): pixels down and right of the centre."""
        return torch.tanh(self.hidden2offset(hidden)) * self.pixel_span / 2

    def forward(self, i: list[Tensor]) -> Tensor:
        hidden, images = i
        glimpses = self.glimpse2d([images, self.get_offset(hidden)])
        new: Tensor = self.gru_onepass([hidden, glimpses.flatten(1)])
        return new


GRU_Glimpse2D = rnn_gen("GRU_Glimpse2D", GRU_Glimpse2D_onepass)
