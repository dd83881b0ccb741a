"""Dense maps made from sparse ones by classical filters, as some networks expect them.

Not here: the completer that publishes such a map (`completers/classical.py`); the filters below
follow the published preparation of one network to the bit and must not be improved.

References:
    Wang et al., LRRU: Long-short Range Recurrent Updating Networks for Depth Completion,
    ICCV 2023, arXiv 2310.08956; Ku et al., In Defense of Classical Image Processing: Fast Depth
    Completion on the CPU, CRV 2018, arXiv 1802.00036.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data import Float32Array, UInt8Array

MAX_DEPTH = 100.0
_EMPTY = 0.1  # metres; less is no measurement
# OpenCV's fixed kernel of 5 taps, which the published smoothing takes; not a sampled Gaussian.
_BINOMIAL = np.array([1, 4, 6, 4, 1], np.float32) / 16


def on_host(prepare: Callable[[Float32Array], Float32Array], sparse: Tensor) -> Tensor:
    """Run a preparation of one map on each map of a batch, and come back to its device.

    Args:
        prepare: (H, W) float32 to (H, W) float32.
        sparse: (B, 1, H, W).

    Returns:
        (B, 1, H, W) of the same type, without gradient.
    """
    maps = sparse.detach().float().cpu().numpy()[:, 0]
    prepared = np.stack([prepare(np.ascontiguousarray(depth)) for depth in maps])
    return torch.from_numpy(prepared)[:, None].to(sparse)


def fill_nearest(sparse: Float32Array) -> Float32Array:
    """Give every pixel the depth of the nearest measurement in the image.

    Args:
        sparse: (H, W) metres, 0 = none.

    Returns:
        (H, W) metres; all 0 where nothing was measured.
    """
    import cv2

    measured = sparse > 0
    if not measured.any():
        return np.zeros_like(sparse)
    _, labels = cv2.distanceTransformWithLabels(
        (~measured).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    depth_of_label = np.zeros(labels.max() + 1, np.float32)
    depth_of_label[labels[measured]] = sparse[measured]
    filled: Float32Array = depth_of_label[labels]
    return filled


def remove_outliers(sparse: Tensor) -> Tensor:
    """Remove measurements that lie behind their neighbours.

    Args:
        sparse: (B, 1, H, W) metres, 0 = none; H and W at least 7.

    Returns:
        (B, 1, H, W) metres. Suspicious measurements are 0, or negative where two or three of the
        neighbourhoods agree, as published; only positive values count.
    """
    measured = (sparse > _EMPTY).to(sparse.dtype)
    both = torch.cat((sparse * measured, measured))  # (2B, 1, H, W)
    flags = torch.zeros_like(sparse)
    with torch.autocast(sparse.device.type, enabled=False):  # half precision is too coarse
        for size in (7, 9, 13):
            neighbours = torch.from_numpy(_diamond(size)).to(sparse)[None, None]
            padded = F.pad(both, (size // 2,) * 4, mode="reflect")
            total, count = F.conv2d(padded, neighbours).chunk(2)
            flags = flags + (sparse - total / (count + 1e-5) > 1.0)
    return sparse * (1 - flags)


def prefill(sparse: Float32Array) -> Float32Array:
    """Fill a sparse map as LRRU does before its first update.

    Args:
        sparse: (H, W) metres as measured, outliers included; up to 0.1 is no measurement.

    Returns:
        (H, W) metres; one measurement is enough to fill all of it, none leaves all 0 (the
        published form gives NaN).
    """
    import cv2

    measured = sparse > _EMPTY
    if not measured.any():
        return np.zeros_like(sparse)
    border = cv2.BORDER_REFLECT_101
    # On inverted depth a dilation lets the nearer surface win.
    depth = np.where(measured, MAX_DEPTH - sparse, sparse).astype(np.float32)
    depth = _dilate(depth, _diamond(5))
    depth = _float32(cv2.morphologyEx(depth, cv2.MORPH_CLOSE, _square(5)))
    depth = np.where(depth < _EMPTY, _dilate(depth, _square(7)), depth)
    depth = _extend_to_top(depth)
    depth = np.where(depth < _EMPTY, _dilate(depth, _square(31)), depth)
    depth = _float32(cv2.medianBlur(depth, 5))
    smooth = _float32(cv2.sepFilter2D(depth, cv2.CV_32F, _BINOMIAL, _BINOMIAL, borderType=border))
    depth = np.where(depth > _EMPTY, smooth, depth)
    depth = np.where(depth > _EMPTY, MAX_DEPTH - depth, depth)
    return _fill_regions(depth)


def _float32(array: object) -> Float32Array:
    return np.asarray(array, np.float32)


def _dilate(depth: Float32Array, neighbours: UInt8Array) -> Float32Array:
    import cv2

    return _float32(cv2.dilate(depth, neighbours))


def _square(size: int) -> UInt8Array:
    return np.ones((size, size), np.uint8)


def _diamond(size: int) -> UInt8Array:
    steps = np.abs(np.arange(size) - size // 2)
    return (steps[:, None] + steps <= size // 2).astype(np.uint8)


def _extend_to_top(depth: Float32Array) -> Float32Array:
    """Repeat each column's topmost value up to the first row."""
    top = np.argmax(depth > _EMPTY, axis=0)
    value = depth[top, np.arange(depth.shape[1])]
    above = np.arange(depth.shape[0])[:, None] < top
    return np.where(above, value, depth)


def _fill_regions(depth: Float32Array) -> Float32Array:
    """Set every region that is still empty, and a rim of it, to the mean around it."""
    import cv2

    empty = (depth <= _EMPTY).astype(np.uint8)
    if not empty.any():
        return depth
    filled = depth.copy()
    count, labels = cv2.connectedComponents(empty, connectivity=4)
    for label in range(1, count):
        region = (labels == label).astype(np.uint8)
        widened = cv2.dilate(region, _square(7)) > 0
        ring = (cv2.dilate(region, _square(13)) > 0) & ~widened
        if ring.any():
            filled[widened] = filled[ring].mean(dtype=np.float64)
    return filled
