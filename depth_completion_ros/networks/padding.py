"""Padding to the sizes a network can take and cropping back; the only place that does either.

Not here: where the published networks cut their images (`enet.py`, `lrru.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Padding:
    """Rows added at the top and columns added at both sides of an image.

    The top, because a LiDAR measures least there: what is made up is far from what is known.
    Both sides, because the published networks take the middle of an image for its axis.

    Attributes:
        top, left, right: pixels.
    """

    top: int
    left: int
    right: int

    @classmethod
    def to_multiple(cls, height: int, width: int, multiple: int) -> Padding:
        """Find the padding that makes both sides a multiple of a number of pixels."""
        columns = -width % multiple
        return cls(-height % multiple, columns // 2, columns - columns // 2)

    def extend(self, x: Tensor) -> Tensor:
        """Pad (B, C, H, W) by repeating its borders: images, rays."""
        if self.top == self.left == self.right == 0:
            return x
        return F.pad(x, (self.left, self.right, self.top, 0), mode="replicate")

    def extend_sparse(self, x: Tensor) -> Tensor:
        """Pad (B, C, H, W) with 0, which is no measurement: sparse depth."""
        if self.top == self.left == self.right == 0:
            return x
        return F.pad(x, (self.left, self.right, self.top, 0))

    def crop(self, x: Tensor) -> Tensor:
        """Cut (B, C, H + top, left + W + right) back to (B, C, H, W)."""
        if self.top == self.left == self.right == 0:
            return x
        return x[:, :, self.top :, self.left : x.shape[3] - self.right]
