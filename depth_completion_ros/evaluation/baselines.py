"""Plain methods to compare with: what a completer has to beat on the same measurements.

Not here: `fill` and the networks (`completers/`).
"""

from __future__ import annotations

import numpy as np

from ..data import Float32Array


def complete_baselines(sparse: Float32Array) -> dict[str, Float32Array]:
    """Complete by every plain method that can run here.

    Args:
        sparse: (H, W) float32 metres, 0 = none.

    Returns:
        By name, (H, W) float32 metres: `ip_basic` (0 where its kernels do not reach), `nearest`,
        and `linear` where scipy is installed; empty if there is no measurement at all.
    """
    from ..completers.ip_basic import fill_ip_basic

    if not sparse.any():
        return {}
    result = {"ip_basic": fill_ip_basic(sparse), "nearest": fill_nearest(sparse)}
    linear = fill_linear(sparse)
    return result if linear is None else {**result, "linear": linear}


def fill_nearest(sparse: Float32Array) -> Float32Array:
    """Give every pixel the depth of the measured pixel that is nearest in the image.

    Args:
        sparse: (H, W) float32 metres, 0 = none; at least one measurement.
    """
    import cv2

    _, label = cv2.distanceTransformWithLabels(
        (sparse == 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    by_label = np.zeros(label.max() + 1, np.float32)
    by_label[label[sparse > 0]] = sparse[sparse > 0]
    return by_label[label]


def fill_linear(sparse: Float32Array) -> Float32Array | None:
    """Interpolate linearly within the Delaunay triangles, nearest neighbour outside the hull.

    Args:
        sparse: (H, W) float32 metres, 0 = none.

    Returns:
        (H, W) float32 metres; None where scipy is missing or there are no triangles.
    """
    try:
        from scipy.interpolate import LinearNDInterpolator
        from scipy.spatial import QhullError
    except ImportError:
        return None
    rows, columns = np.nonzero(sparse)
    pixels = np.column_stack((rows, columns)).astype(np.float64)
    try:
        interpolate = LinearNDInterpolator(pixels, sparse[rows, columns].astype(np.float64))
    except (QhullError, ValueError):
        return None
    v, u = np.mgrid[: sparse.shape[0], : sparse.shape[1]]
    linear = interpolate(v, u)
    return np.where(np.isnan(linear), fill_nearest(sparse), linear).astype(np.float32)
