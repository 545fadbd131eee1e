"""The minGRU as a linear recurrence, see `canton.kernels.associative_scan`."""

from __future__ import annotations

import torch
from torch import Tensor


class MinGRURecurrence:
    """z = sigmoid(gx_z); c = gx_c + 1/2 where gx_c >= 0, else sigmoid(gx_c)."""

    def forward(self, gx: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and c, see `canton.kernels.LinearRecurrence`."""
        z_in, c_in = gx.chunk(2, dim=2)
        return torch.sigmoid(z_in), torch.where(c_in >= 0, c_in + 0.5, torch.sigmoid(c_in))

    def backward(self, gx: Tensor, z: Tensor, c: Tensor, d_z: Tensor, d_c: Tensor) -> Tensor:
        """Return the gradient of gx."""
        slope = torch.where(gx.chunk(2, dim=2)[1] >= 0, torch.ones_like(c), (1 - c) * c)
        return torch.cat([d_z * (z * (1 - z)), d_c * slope], dim=2)
