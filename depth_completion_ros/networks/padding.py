"""Padding to the sizes a network can take and cropping back; the only place that does either.

Not here: where the published networks cut their images (`enet.py`, `lrru.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Padding:
    """Rows added at the top and columns added at the right of an image.

    The top, because a LiDAR measures least there: what is made up is far from what is known.

    Attributes:
        top, right: pixels.
    """

    top: int
    right: int

    @classmethod
    def to_multiple(cls, height: int, width: int, multiple: int) -> Padding:
        """Find the padding that makes both sides a multiple of a number of pixels."""
        return cls(-height % multiple, -width % multiple)

    def extend(self, x: Tensor) -> Tensor:
        """Pad (B, C, H, W) by repeating its borders: images, rays."""
        if self.top == self.right == 0:
            return x
        return F.pad(x, (0, self.right, self.top, 0), mode="replicate")

    def extend_sparse(self, x: Tensor) -> Tensor:
        """Pad (B, C, H, W) with 0, which is no measurement: sparse depth."""
        if self.top == self.right == 0:
            return x
        return F.pad(x, (0, self.right, self.top, 0))

    def crop(self, x: Tensor) -> Tensor:
        """Cut (B, C, H + top, W + right) back to (B, C, H, W)."""
        if self.top == self.right == 0:
            return x
        return x[:, :, self.top :, : x.shape[3] - self.right]
