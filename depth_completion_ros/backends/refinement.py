"""Single-pass deformable refinement on the CPU, without torch.

The same function as `networks/sampling.py`, which is the reference; a test holds them equal.
Guidance may be of half the map's size: 2x2 pixels then share it, and what is computed per
guidance pixel is computed once instead of four times.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import cv2
import numpy as np

from ..data import Float32Array

Sampler = Callable[[Float32Array, Float32Array, Float32Array, int, int], list[Float32Array]]


def add_samples(
    start: Float32Array,
    depth: Float32Array,
    weight: Float32Array,
    offset: Float32Array,
    taps: Sequence[tuple[float, float]],
    *,
    reach: float,
    repeat_border: bool = False,
    method: str = "auto",
) -> Float32Array:
    """Add a weighted sum of bilinear samples around each pixel to a map.

    Args:
        start: (H, W), what the sum is added to.
        depth: (H, W) metres, the map to sample.
        weight: (T, h, w), normalised; h x w is the map's size or half of it.
        offset: (2T, h, w) pixels of the map, x before y for each tap.
        taps: x and y of each tap relative to the pixel at zero offset.
        reach: pixels; corners of a sample count as 0 beyond it.
        repeat_border: True goes on outside the map with the value of its border; False with 0.
        method: `remap` (OpenCV 5 or later), `numpy`, or `auto` for the faster that is exact.

    Returns:
        (H, W) float32.
    """
    height, width = depth.shape
    scale = height // weight.shape[1]
    margin = math.ceil(reach) + 2
    border = cv2.BORDER_REPLICATE if repeat_border else cv2.BORDER_CONSTANT
    padded = np.asarray(cv2.copyMakeBorder(depth, *(margin,) * 4, border), np.float32)
    sampler = _SAMPLERS[_exact_method() if method == "auto" else method]
    phases = list(itertools.product(range(scale), repeat=2))
    sums = [start[row::scale, column::scale].copy() for row, column in phases]
    for t, tap in enumerate(taps):
        share, shift_x, shift_y = _within_reach(
            weight[t], offset[2 * t], offset[2 * t + 1], tap, reach
        )
        samples = sampler(padded, shift_x, shift_y, margin, scale)
        for total, sample in zip(sums, samples, strict=True):
            cv2.accumulateProduct(sample, share, total)
    if scale == 1:
        return sums[0]
    refined = np.empty((height, width), np.float32)
    for (row, column), total in zip(phases, sums, strict=True):
        refined[row::scale, column::scale] = total
    return refined


def _within_reach(
    weight: Float32Array,
    offset_x: Float32Array,
    offset_y: Float32Array,
    tap: tuple[float, float],
    reach: float,
) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Stop shifts at the reach and fade weights out over one more pixel, in x and in y."""
    shifts = []
    for offset, place in zip((offset_x, offset_y), tap, strict=True):
        shift = offset + np.float32(place)
        low, high, _, _ = cv2.minMaxLoc(shift)
        if low < -reach or high > reach:
            inside = np.clip(shift, np.float32(-reach), np.float32(reach))
            weight = weight * np.maximum(1 - np.abs(shift - inside), 0)
            shift = inside
        shifts.append(shift)
    return weight, shifts[0], shifts[1]


def _sample_by_remap(
    padded: Float32Array, shift_x: Float32Array, shift_y: Float32Array, margin: int, scale: int
) -> list[Float32Array]:
    """Sample with OpenCV; each of the scale x scale pixels sees a view moved by itself."""
    x, y = _places(*shift_x.shape, margin, scale)
    map_x, map_y = shift_x + x, shift_y + y
    return [
        np.asarray(
            cv2.remap(
                padded[row:, column:], map_x, map_y, cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            ),
            np.float32,
        )
        for row, column in itertools.product(range(scale), repeat=2)
    ]  # fmt: skip


def _sample_by_index(
    padded: Float32Array, shift_x: Float32Array, shift_y: Float32Array, margin: int, scale: int
) -> list[Float32Array]:
    """Sample with numpy; scale x scale pixels share all but their outer corners."""
    stride = padded.shape[1]
    x, y = _places(*shift_x.shape, margin, scale)
    whole_x, whole_y = np.floor(shift_x), np.floor(shift_y)
    part_x, part_y = shift_x - whole_x, shift_y - whole_y
    index = ((whole_y + y) * stride).astype(np.int32) + (whole_x + x).astype(np.int32)
    flat = padded.ravel()
    between = []  # by row of corners: values between neighbouring columns
    for row in range(scale + 1):
        corners = [flat.take(index + (row * stride + column)) for column in range(scale + 1)]
        between.append([a + part_x * (b - a) for a, b in itertools.pairwise(corners)])
    return list(_between_rows(between, part_y))


def _between_rows(rows: list[list[Float32Array]], part: Float32Array) -> Iterator[Float32Array]:
    for upper, lower in itertools.pairwise(rows):
        for a, b in zip(upper, lower, strict=True):
            yield a + part * (b - a)


_SAMPLERS: dict[str, Sampler] = {"remap": _sample_by_remap, "numpy": _sample_by_index}


@lru_cache(maxsize=8)
def _places(height: int, width: int, margin: int, scale: int) -> tuple[Float32Array, Float32Array]:
    """Give the places (1, w) and (h, 1) of guidance pixels in the padded map."""
    x = np.arange(width, dtype=np.float32)[None] * scale + margin
    y = np.arange(height, dtype=np.float32)[:, None] * scale + margin
    return x, y


@lru_cache(maxsize=1)
def _exact_method() -> str:
    """Find out whether OpenCV interpolates in floating point.

    Before version 5 it rounds positions to 1/32 pixel, which is up to half a metre at edges.
    """
    ramp = np.array([[0.0, 1.0]], np.float32)
    place = np.array([[0.3]], np.float32)
    value = cv2.remap(ramp, place, np.zeros_like(place), cv2.INTER_LINEAR)[0, 0]
    return "remap" if abs(value - 0.3) < 1e-5 else "numpy"
