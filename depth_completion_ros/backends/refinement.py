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
from typing import NamedTuple

import cv2
import numpy as np

from ..data import Float32Array

# Guidance pixels worked on at a time: what is made on the way then stays in the cache.
_STRIP_PIXELS = 131072


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
    refined = np.empty((height, width), np.float32)
    rows = max(1, _STRIP_PIXELS // weight.shape[2])
    for top in range(0, weight.shape[1], rows):
        part = slice(top, min(top + rows, weight.shape[1]))
        strip = slice(part.start * scale, part.stop * scale)
        sample_all = sampler(padded[strip.start :], margin, scale, weight[0, part].shape)
        sums = [start[strip][phase].copy() for phase in _phases(scale)]
        for t, tap in enumerate(taps):
            share, shifts = _within_reach(
                weight[t, part], offset[2 * t : 2 * t + 2, part], tap, reach
            )
            for total, sample in zip(sums, sample_all(shifts), strict=True):
                cv2.accumulateProduct(sample, share, total)
        for phase, total in zip(_phases(scale), sums, strict=True):
            refined[strip][phase] = total
    return refined


def _phases(scale: int) -> list[tuple[slice, slice]]:
    """Give the rows and columns of the pixels that share guidance, one pixel of each cell."""
    side = [slice(first, None, scale) for first in range(scale)]
    return [(rows, columns) for rows in side for columns in side]


class _Shifts(NamedTuple):
    """Hold how far from its pixel a tap looks: (h, w) pixels in x and y, and what to add."""

    x: Float32Array
    y: Float32Array
    tap: tuple[float, float]


def _within_reach(
    weight: Float32Array, offset: Float32Array, tap: tuple[float, float], reach: float
) -> tuple[Float32Array, _Shifts]:
    """Stop shifts at the reach and fade weights out over one more pixel, in x and in y."""
    limited = []
    for shift, place in zip(offset, tap, strict=True):
        # The tap's place is added with the pixel's, in one step; most maps need nothing here.
        low, high = np.float32(-reach - place), np.float32(reach - place)
        smallest, largest, _, _ = cv2.minMaxLoc(shift)
        if smallest < low or largest > high:
            inside = np.clip(shift, low, high)
            fade = np.subtract(shift, inside)
            np.abs(fade, out=fade)
            np.subtract(1, fade, out=fade)
            np.maximum(fade, 0, out=fade)
            weight = np.multiply(fade, weight, out=fade)
            shift = inside
        limited.append(shift)
    return weight, _Shifts(limited[0], limited[1], tap)


def _sampler_by_remap(
    padded: Float32Array, margin: int, scale: int, size: tuple[int, ...]
) -> Callable[[_Shifts], Iterator[Float32Array]]:
    """Sample with OpenCV; each of the scale x scale pixels sees a view moved by itself."""
    x, y = _places(size, margin, scale)
    map_x, map_y, sample = (np.empty(size, np.float32) for _ in range(3))
    views = [padded[row:, column:] for row, column in itertools.product(range(scale), repeat=2)]

    def sample_all(shifts: _Shifts) -> Iterator[Float32Array]:
        np.add(shifts.x, x + np.float32(shifts.tap[0]), out=map_x)
        np.add(shifts.y, y + np.float32(shifts.tap[1]), out=map_y)
        for view in views:
            cv2.remap(view, map_x, map_y, cv2.INTER_LINEAR, sample, cv2.BORDER_REPLICATE)
            yield sample

    return sample_all


def _sampler_by_index(
    padded: Float32Array, margin: int, scale: int, size: tuple[int, ...]
) -> Callable[[_Shifts], Iterator[Float32Array]]:
    """Sample with numpy; scale x scale pixels share all but their outer corners."""
    x, y = _places(size, margin, scale)
    stride = padded.shape[1]
    flat = padded.ravel()

    def sample_all(shifts: _Shifts) -> Iterator[Float32Array]:
        # Splitting off whole pixels before adding the pixel's own place keeps all digits.
        shift_x = shifts.x + np.float32(shifts.tap[0])
        shift_y = shifts.y + np.float32(shifts.tap[1])
        whole_x, whole_y = np.floor(shift_x), np.floor(shift_y)
        part_x, part_y = shift_x - whole_x, shift_y - whole_y
        index = ((whole_y + y) * stride).astype(np.int32) + (whole_x + x).astype(np.int32)
        rows = []  # of corners: values between neighbouring columns
        for row in range(scale + 1):
            corners = [flat.take(index + (row * stride + column)) for column in range(scale + 1)]
            rows.append([a + part_x * (b - a) for a, b in itertools.pairwise(corners)])
        for upper, lower in itertools.pairwise(rows):
            for a, b in zip(upper, lower, strict=True):
                yield a + part_y * (b - a)

    return sample_all


_SAMPLERS = {"remap": _sampler_by_remap, "numpy": _sampler_by_index}


def _places(size: tuple[int, ...], margin: int, scale: int) -> tuple[Float32Array, Float32Array]:
    """Give the places (1, w) and (h, 1) of guidance pixels in the padded map."""
    x = np.arange(size[1], dtype=np.float32)[None] * scale + margin
    y = np.arange(size[0], dtype=np.float32)[:, None] * scale + margin
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
