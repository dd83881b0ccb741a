"""The deformable refinement in the form in which it was published: unfold a window per pixel.

Not for use: it needs a buffer of window² maps. It is the yardstick of `benchmark --against
published` and an independent check of `sampling.py`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def refine_unfolded(
    depth: Tensor,
    weight: Tensor,
    offset: Tensor,
    *,
    kernel: int = 3,
    window: int = 15,
    residual: bool = True,
) -> Tensor:
    """Do what `sampling.refine` does, by one small grid sampling per pixel.

    Arguments and result are those of `sampling.refine`.
    """
    batch, _, height, width = depth.shape
    taps = kernel * kernel
    half = window // 2
    if residual:
        weight = weight - weight.mean(1, keepdim=True)
    else:
        weight = weight / weight.sum(1, keepdim=True)
    windows = F.unfold(depth, window, padding=half)  # (B, f², H*W)
    windows = windows.transpose(1, 2).reshape(-1, 1, window, window)  # (B*H*W, 1, f, f)
    side = torch.arange(kernel, device=depth.device, dtype=depth.dtype) + half
    centres = torch.cartesian_prod(side, side)  # (k², 2): x is the slow index
    shifts = offset.reshape(batch, taps, 2, height * width).permute(0, 3, 1, 2)
    grid = (shifts + centres).reshape(-1, kernel, kernel, 2) * (2 / window) - 1
    samples = F.grid_sample(windows, grid, align_corners=False)  # (B*H*W, 1, k, k)
    samples = samples.reshape(batch, height * width, taps).transpose(1, 2)
    total = (samples * weight.reshape(batch, taps, -1)).sum(1).reshape(depth.shape)
    return depth + total if residual else total
