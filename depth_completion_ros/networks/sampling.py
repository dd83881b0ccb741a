"""Single-pass deformable refinement: each pixel adds k² bilinear samples of one map.

Not here: the heads that predict weights and offsets (`redc.py`, `lrru.py`) and the published
form that unfolds windows (`published_refinement.py`). Both networks share `add_samples`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Pixels worked on at a time by a CPU: its temporaries then stay in the cache (1.4 times faster).
_STRIP_PIXELS = 65536


def refine(
    depth: Tensor,
    weight: Tensor,
    offset: Tensor,
    *,
    kernel: int = 3,
    window: int = 15,
    residual: bool = True,
) -> Tensor:
    """Refine a depth map with one deformable pass, exactly as the published ReDC does.

    Two quirks belong to the published weights: the taps are not centred but run from -0.5 to
    kernel - 1.5, and the slow tap index moves along x.

    Args:
        depth: (B, 1, H, W) metres, the map to sample.
        weight: (B, k², H, W), before normalisation.
        offset: (B, 2k², H, W) pixels, x before y for each tap; not limited.
        kernel: k, taps along one side.
        window: odd, pixels; corners farther than (window - 1) / 2 from the pixel count as 0.
        residual: True subtracts the mean of the weights and adds the sum to `depth`; False
            divides the weights by their sum and returns the sum of the samples.

    Returns:
        (B, 1, H, W) metres, not clamped: values may be negative.

    Source: ReDC, arXiv 2308.01905, and what its released code computes.
    """
    side = torch.arange(kernel, device=offset.device, dtype=offset.dtype) - 0.5
    taps = torch.cartesian_prod(side, side)  # (k², 2): x is the slow index
    reach = (window - 1) / 2
    if residual:
        return add_samples(depth, depth, weight, offset, taps, subtract_mean, reach=reach)
    nothing = torch.zeros_like(depth)
    return add_samples(nothing, depth, weight, offset, taps, divide_by_sum, reach=reach)


def subtract_mean(weight: Tensor) -> Tensor:
    """Make weights (B, T, H, W) sum to 0 over the taps."""
    return weight - weight.mean(1, keepdim=True)


def divide_by_sum(weight: Tensor) -> Tensor:
    """Make weights (B, T, H, W) sum to 1 over the taps."""
    return weight / weight.sum(1, keepdim=True)


def add_samples(
    start: Tensor,
    depth: Tensor,
    weight: Tensor,
    offset: Tensor,
    taps: Tensor,
    normalise: Callable[[Tensor], Tensor],
    *,
    reach: float | None = None,
    repeat_border: bool = False,
) -> Tensor:
    """Add a weighted sum of bilinear samples around each pixel to a map.

    Args:
        start: (B, 1, H, W), what the sum is added to.
        depth: (B, 1, H, W), the map to sample.
        weight: (B, T, H, W).
        offset: (B, 2T, H, W) pixels, x before y for each tap.
        taps: (T, 2) pixels, x and y of each tap relative to the pixel at zero offset.
        normalise: turns weights (B, T, h, W) of some rows into those of the sum.
        reach: pixels; corners of a sample count as 0 beyond it. None has no limit.
        repeat_border: True goes on outside with the value of the border; False with 0. Needs a
            reach.

    Returns:
        (B, 1, H, W), float32 or more: half precision has no sub-pixels left beyond 1024.
    """
    exact = torch.promote_types(depth.dtype, torch.float32)
    depth, weight, offset = depth.to(exact), weight.to(exact), offset.to(exact)
    if torch.onnx.is_in_onnx_export():
        border = "border" if repeat_border else "zeros"
        return start + _sum_for_export(depth, normalise(weight), offset, taps, reach, border)
    height, width = depth.shape[-2:]
    margin = 2 if reach is None else math.ceil(reach) + 1
    # What a sample finds when it leaves the map.
    padded = F.pad(depth, (margin,) * 4, mode="replicate" if repeat_border else "constant")
    needs_graph = torch.is_grad_enabled() and any(
        tensor.requires_grad for tensor in (depth, weight, offset)
    )
    rows = height
    if depth.device.type == "cpu" and not needs_graph:
        rows = max(1, _STRIP_PIXELS // width)
    strips = []
    for top in range(0, height, rows):
        part = slice(top, min(top + rows, height))
        pixels = _Pixels.of(padded, part, margin, reach)
        strip = start[:, :, part]
        weights = normalise(weight[:, :, part])
        shifts = offset[:, :, part]
        for t, tap in enumerate(taps):
            shift = shifts[:, 2 * t : 2 * t + 2] + tap.view(2, 1, 1)
            arguments = (padded, weights[:, t : t + 1], shift, pixels)
            if needs_graph:
                # Computing a tap again costs less than keeping a dozen maps for each of them.
                sample = checkpoint(
                    _weighted_sample, *arguments, use_reentrant=False, preserve_rng_state=False
                )
            else:
                sample = _weighted_sample(*arguments)
            strip = strip + sample
        strips.append(strip)
    return torch.cat(strips, dim=2)


class _Pixels(NamedTuple):
    """Hold what all taps share: where some rows lie in the padded map, how far they reach."""

    place: Tensor  # (B, h, W) int64, each pixel's index in the flat padded map
    stride: int  # pixels from one row of the padded map to the next
    reach: float | None
    low: Tensor  # (2, h, W) shift in x and y that leads to the pixel before the map's first
    high: Tensor  # (2, h, W) and to the one after its last

    @classmethod
    def of(cls, padded: Tensor, rows: slice, margin: int, reach: float | None) -> _Pixels:
        batch, _, height, width = padded.shape
        device = padded.device
        x = torch.arange(width - 2 * margin, device=device)
        y = torch.arange(rows.start, rows.stop, device=device)[:, None]
        b = torch.arange(batch, device=device)[:, None, None]
        place = (b * height + y + margin) * width + x + margin
        low = high = x
        if reach is None:
            size = place.shape[1:]
            position = torch.stack((x.expand(size), y.expand(size))).to(padded.dtype)
            end = torch.tensor([width, height], device=device).view(2, 1, 1) - 2 * margin
            low, high = -1 - position, end - position
        return cls(place, width, reach, low, high)


def _weighted_sample(padded: Tensor, weight: Tensor, shift: Tensor, pixels: _Pixels) -> Tensor:
    """Sample the map once per pixel, `shift` (B, 2, h, W) pixels away, times a weight."""
    if pixels.reach is None:
        shift = torch.clamp(shift, pixels.low, pixels.high)
    else:
        # A corner beyond the reach counts as 0. So the sample stops at the reach and fades out
        # over one more pixel, in x and in y.
        fade = (pixels.reach + 1 - shift.abs()).clamp(0, 1)  # (B, 2, h, W)
        weight = weight * fade[:, :1] * fade[:, 1:]
        shift = shift.clamp(-pixels.reach, pixels.reach)
    # Splitting off whole pixels before adding the pixel's own position keeps all digits.
    whole = shift.detach().floor()
    part_x, part_y = (shift - whole).unbind(1)
    index = pixels.place + torch.add(whole[:, 0], whole[:, 1], alpha=pixels.stride).long()
    flat = padded.flatten()
    a, b, c, d = (
        flat[skip:].index_select(0, index.flatten()).view(part_x.shape)
        for skip in (0, 1, pixels.stride, pixels.stride + 1)
    )
    sample = torch.lerp(torch.lerp(a, b, part_x), torch.lerp(c, d, part_x), part_y)
    return weight * sample[:, None]


def _sum_for_export(
    depth: Tensor,
    weight: Tensor,
    offset: Tensor,
    taps: Tensor,
    reach: float | None,
    border: str,
) -> Tensor:
    """Do what `add_samples` does with one GridSample for all taps, which runtimes know.

    Its coordinates count from the middle of the map, which costs some digits: up to 5e-3 m
    where depth changes by 15 m from pixel to pixel.
    """
    batch, _, height, width = depth.shape
    count = len(taps)
    shift = offset.view(batch, count, 2, height, width) + taps.view(1, count, 2, 1, 1)
    if reach is not None:
        fade = (reach + 1 - shift.abs()).clamp(0, 1)
        weight = weight * fade[:, :, 0] * fade[:, :, 1]
        shift = shift.clamp(-reach, reach)
    x = torch.arange(width, device=depth.device, dtype=depth.dtype)
    y = torch.arange(height, device=depth.device, dtype=depth.dtype)[:, None]
    u = (2 * (shift[:, :, 0] + x) + 1) / width - 1  # (B, T, H, W)
    v = (2 * (shift[:, :, 1] + y) + 1) / height - 1
    grid = torch.stack((u, v), -1).view(batch, count * height, width, 2)
    samples = F.grid_sample(depth, grid, padding_mode=border, align_corners=False)
    return (samples.view(batch, count, height, width) * weight).sum(1, keepdim=True)
