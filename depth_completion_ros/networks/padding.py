"""Padding to the sizes a network can take and cropping back; the only place that does either.

Needs torch for tensors alone. Not here: where the published networks cut their images
(`enet.py`, `lrru.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

AnyArray = np.ndarray[Any, Any]
T = TypeVar("T", bound=Any)


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
        import torch.nn.functional as F

        if self.is_none:
            return x
        return F.pad(x, (self.left, self.right, self.top, 0), mode="replicate")

    def extend_sparse(self, x: Tensor) -> Tensor:
        """Pad (B, C, H, W) with 0, which is no measurement: sparse depth."""
        import torch.nn.functional as F

        if self.is_none:
            return x
        return F.pad(x, (self.left, self.right, self.top, 0))

    def extend_array(self, array: AnyArray, *, repeat: bool = True) -> AnyArray:
        """Pad an array (H, W) or (H, W, C) by repeating its borders, or with 0."""
        import cv2

        if self.is_none:
            return np.ascontiguousarray(array)
        border = cv2.BORDER_REPLICATE if repeat else cv2.BORDER_CONSTANT
        padded = cv2.copyMakeBorder(array, self.top, 0, self.left, self.right, border)
        return np.asarray(padded, array.dtype)

    def crop(self, x: T) -> T:
        """Cut a tensor or array (..., H + top, left + W + right) back to (..., H, W)."""
        if self.is_none:
            return x
        cut: T = x[..., self.top :, self.left : x.shape[-1] - self.right]
        return cut

    @property
    def is_none(self) -> bool:
        """Tell that there is nothing to add or cut."""
        return self.top == self.left == self.right == 0
