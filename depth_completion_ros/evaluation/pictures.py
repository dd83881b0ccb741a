"""Pictures of depth, confidence and error, for people.

Not here: numbers (`metrics.py`). All pictures are (H, W, 3) uint8 RGB.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..data import Float32Array, UInt8Array

_TITLE_HEIGHT = 22
_ERROR_RANGE = 2.0
_LEGEND_HEIGHT = 24
_LEGEND_LABELS = 6


def colorize_depth(depth: Float32Array, low: float = 0.0, high: float = 80.0) -> UInt8Array:
    """Paint depth from near (red) to far (blue) on the turbo scale.

    Args:
        depth: (H, W) metres, 0 or NaN = none, painted black.
        low, high: metres at the two ends of the scale.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    known = depth > 0
    share = np.where(known, (depth - low) / (high - low), 1.0).astype(np.float32)
    return _turbo(1.0 - share, known)


def colorize_confidence(confidence: Float32Array) -> UInt8Array:
    """Paint confidence from 0 (dark) to 1 (bright), none black.

    Args:
        confidence: (H, W) in [0, 1], 0 = no estimate.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    import cv2

    bgr = cv2.applyColorMap(_bytes(confidence), cv2.COLORMAP_VIRIDIS)
    rgb: UInt8Array = np.ascontiguousarray(bgr[..., ::-1])
    rgb[~(confidence > 0)] = 0
    return rgb


def colorize_error(
    depth: Float32Array, truth: Float32Array, high: float = _ERROR_RANGE
) -> UInt8Array:
    """Paint the absolute error where the truth is known; pixels grow so that they can be seen.

    Args:
        depth: (H, W) metres, 0 = no estimate, which counts as an error of the full depth.
        truth: (H, W) metres, 0 = unknown, painted black.
        high: metres at the upper end of the scale.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    import cv2

    known = truth > 0
    error = np.where(known, np.abs(depth - truth) / high, 0).astype(np.float32)
    painted = cv2.dilate(_turbo(error, known), np.ones((3, 3), np.uint8))
    return np.asarray(painted, np.uint8)


def draw_sparse(
    image: UInt8Array, sparse: Float32Array, low: float = 0.0, high: float = 80.0
) -> UInt8Array:
    """Draw measurements over the darkened image, each large enough to see.

    Args:
        image: (H, W, 3) uint8 RGB.
        sparse: (H, W) metres, 0 = none.
        low, high: metres at the two ends of the colour scale.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    picture = (image * 0.6).astype(np.uint8)
    radius = max(1, round(image.shape[1] / 1200))
    rows, columns = np.nonzero(sparse)
    # Far ones first, so that near ones stay on top.
    order = np.argsort(-sparse[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    colors = colorize_depth(sparse, low, high)[rows, columns]
    height, width = sparse.shape
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            y = np.clip(rows + dy, 0, height - 1)
            x = np.clip(columns + dx, 0, width - 1)
            picture[y, x] = colors
    return picture


def draw_legend(picture: UInt8Array, low: float = 0.0, high: float = 80.0) -> UInt8Array:
    """Put the colour scale of depth under a picture.

    Args:
        picture: (H, W, 3) uint8 RGB.
        low, high: metres at the two ends of the scale.

    Returns:
        (H + legend, W, 3) uint8 RGB.
    """
    import cv2

    width = picture.shape[1]
    scale = np.linspace(low, high, width, dtype=np.float32)
    colors = colorize_depth(np.maximum(scale, 1e-3)[None], low, high)
    legend = np.repeat(colors, _LEGEND_HEIGHT // 2, axis=0)
    labels = np.full((_LEGEND_HEIGHT, width, 3), 30, np.uint8)
    for share in np.linspace(0, 1, _LEGEND_LABELS):
        text = f"{low + share * (high - low):.0f} m"
        (length, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
        x = int(share * (width - length - 8)) + 4
        cv2.putText(
            labels, text, (x, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (235,) * 3, 1, cv2.LINE_AA
        )
    return np.vstack((picture, legend, labels))


def stack_panels(panels: Sequence[tuple[str, UInt8Array]], columns: int = 1) -> UInt8Array:
    """Put pictures of one size under and beside each other, each under its title.

    Args:
        panels: title and (H, W, 3) uint8 RGB picture, in reading order.
        columns: pictures in a row.

    Returns:
        (rows * (H + title), columns * W, 3) uint8 RGB.
    """
    titled = [_titled(title, picture) for title, picture in panels]
    while len(titled) % columns:
        titled.append(np.zeros_like(titled[0]))
    rows = [np.hstack(titled[i : i + columns]) for i in range(0, len(titled), columns)]
    return np.vstack(rows)


def _titled(title: str, picture: UInt8Array) -> UInt8Array:
    import cv2

    bar = np.full((_TITLE_HEIGHT, picture.shape[1], 3), 30, np.uint8)
    cv2.putText(bar, title, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (235,) * 3, 1, cv2.LINE_AA)
    return np.vstack((bar, picture))


def _turbo(share: Float32Array, known: np.ndarray) -> UInt8Array:
    import cv2

    bgr = cv2.applyColorMap(_bytes(share), cv2.COLORMAP_TURBO)
    rgb: UInt8Array = np.ascontiguousarray(bgr[..., ::-1])
    rgb[~known] = 0
    return rgb


def _bytes(share: Float32Array) -> UInt8Array:
    return (np.clip(np.nan_to_num(share), 0, 1) * 255).astype(np.uint8)
