"""IP-Basic, the fixed-kernel morphological fill, as the yardstick for speed and error.

Not here: this package's own fill (`classical.py`), which takes its reach from the data.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..data import Float32Array

# The published constants: depth is inverted about this value, smaller values count as empty.
_MAX_DEPTH = 100.0
_EMPTY = 0.1
_DIAMOND_5 = np.array(
    [[0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0]],
    np.uint8,
)


def fill_ip_basic(sparse: Float32Array) -> Float32Array:
    """Fill holes by single-scale IP-Basic with Gaussian blur and extrapolation.

    Args:
        sparse: (H, W) float32 metres, 0 = none; values from 99.9 m on count as none.

    Returns:
        (H, W) float32 metres, 0 where no kernel reached.

    Source: Ku et al., "In Defense of Classical Image Processing", CRV 2018; `fill_in_fast` of
    kujason/ip_basic.
    """
    inverted = np.where(sparse > _EMPTY, np.float32(_MAX_DEPTH) - sparse, np.float32(0))
    inverted = cv2.dilate(inverted, _DIAMOND_5)
    inverted = cv2.morphologyEx(inverted, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    dilated = cv2.dilate(inverted, np.ones((7, 7), np.uint8))
    inverted = np.where(inverted < _EMPTY, dilated, inverted)
    top = np.argmax(inverted > _EMPTY, axis=0)
    above = np.arange(inverted.shape[0])[:, None] < top
    topmost = inverted[top, np.arange(inverted.shape[1])]
    inverted = np.where(above, topmost, inverted)
    dilated = cv2.dilate(inverted, np.ones((31, 31), np.uint8))
    inverted = np.where(inverted < _EMPTY, dilated, inverted)
    inverted = cv2.medianBlur(inverted, 5)
    blurred = cv2.GaussianBlur(inverted, (5, 5), 0)
    inverted = np.where(inverted > _EMPTY, blurred, inverted)
    filled = np.where(inverted > _EMPTY, np.float32(_MAX_DEPTH) - inverted, np.float32(0))
    return filled.astype(np.float32, copy=False)
