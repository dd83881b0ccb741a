"""Refinements in the form in which they were published: unfolded windows, one-hot kernels.

Not for use: they need many times the memory and time of `sampling.py` and `penet.py`. They are
the yardsticks of `benchmark --against published` and independent checks of both.
"""

from __future__ import annotations

from collections.abc import Sequence

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


def propagate_one_hot(
    depth: Tensor,
    affinities: Sequence[Tensor],
    confidence: Tensor,
    mask: Tensor,
    measured: Tensor,
    *,
    dilation: int,
    steps: int,
) -> Tensor:
    """Do what `penet.propagate_dilated` does, with transposed and enlarged affinities.

    Arguments and result are those of `penet.propagate_dilated`.
    """

    def enlarge(x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=dilation, mode="nearest")

    mask, measured, confidence = enlarge(mask), enlarge(measured), enlarge(confidence)
    total = torch.zeros_like(depth)
    for k, affinity in enumerate(affinities):
        received = enlarge(transpose_one_hot(affinity))
        h = depth
        for _ in range(steps):
            h = _collect(h, depth, received, dilation)
            h = mask * measured + (1 - mask) * h
        total = total + confidence[:, k : k + 1] * h
    return total


def transpose_one_hot(affinity: Tensor) -> Tensor:
    """Bring what pixels send to the pixels that receive it, by a dense convolution.

    Args:
        affinity: (B, k², H, W), channel m is what a pixel sends to its neighbour m, row-major.

    Returns:
        (B, k², H, W), channel o is what a pixel receives from its neighbour o.
    """
    taps = affinity.shape[1]
    kernel = round(taps**0.5)
    o = torch.arange(taps, device=affinity.device)
    one_hot = torch.zeros(taps, taps, kernel, kernel, device=affinity.device)
    one_hot[o, taps - 1 - o, o // kernel, o % kernel] = 1
    return F.conv2d(affinity, one_hot, padding=kernel // 2)


def _collect(h: Tensor, start: Tensor, received: Tensor, dilation: int) -> Tensor:
    taps = received.shape[1]
    kernel = round(taps**0.5)
    windows = F.unfold(h, kernel, dilation=dilation, padding=dilation * (kernel // 2))
    windows = windows.reshape(received.shape)  # (B, k², H, W)
    windows[:, taps // 2] = start[:, 0]
    return (received * windows).sum(1, keepdim=True)
