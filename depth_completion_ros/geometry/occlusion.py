"""Background points that the LiDAR sees past a nearer surface's edge.

LiDAR and camera stand apart. Where the LiDAR looks past an edge onto the background, the camera
may see the nearer surface, and the background point lands among the surface's own points.
Not here: points hidden by others on the same pixel (`projection.py` keeps the nearest).
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from ..data import Float32Array, Float64Array, PinholeCamera
from ..settings import OcclusionFilterSettings
from .camera import normalised_pixels

# Where the LiDAR is unknown, this many metres away in any direction: cars and robots alike.
_USUAL_BASELINE = 0.3

# Cells from a point to the end of its neighbourhood; finer cells cost more and find no more.
_RADIUS = 3
_OFFSETS = np.array(
    [
        (dv, du)
        for dv in range(-_RADIUS, _RADIUS + 1)
        for du in range(-_RADIUS, _RADIUS + 1)
        if 0 < du * du + dv * dv <= _RADIUS * _RADIUS + 1
    ]
)


def filter_sparse(
    sparse: Float32Array,
    camera: PinholeCamera,
    settings: OcclusionFilterSettings = OcclusionFilterSettings(),
    T_camera_lidar: Float64Array | None = None,
) -> Float32Array:
    """Copy sparse depth without what `see_through_mask` finds.

    Args:
        sparse: (H, W) float32 metres along z, 0 = none.
        camera: model of the map.
        settings: `enabled` False copies all values.
        T_camera_lidar: (4, 4); None if it is not known where the LiDAR stands.

    Returns:
        (H, W) float32, 0 = none.
    """
    kept = sparse.copy()
    if settings.enabled:
        kept[see_through_mask(sparse, camera, settings, T_camera_lidar)] = 0
    return kept


def see_through_mask(
    sparse: Float32Array,
    camera: PinholeCamera,
    settings: OcclusionFilterSettings = OcclusionFilterSettings(),
    T_camera_lidar: Float64Array | None = None,
) -> NDArray[np.bool_]:
    """Mark measurements of background that the camera cannot see.

    From the LiDAR's place to the camera's, near points move farther over the image than far ones.
    A surface that both see keeps the order of its points, however steep it is. A far point is
    marked if a nearer one has moved across it while another nearer one lies on the other side:
    then the surface between the two covers it.

    Args:
        sparse: (H, W) float32 metres along z, 0 = none.
        camera: model of the map.
        settings: `enabled` is not asked here.
        T_camera_lidar: (4, 4), where the LiDAR stands; None takes a usual distance in an unknown
            direction, which finds less.

    Returns:
        (H, W) bool, True = background seen past a nearer edge.

    Source: ordering constraint of stereo vision (Baker and Binford, IJCAI 1981).
    """
    mask = np.zeros(sparse.size, bool)
    pixels = np.flatnonzero(sparse)
    if len(pixels) == 0:
        return mask.reshape(sparse.shape)
    z = sparse.ravel()[pixels]
    v, u = np.divmod(pixels, camera.width)
    xy = _rays(camera).reshape(-1, 2)[pixels]
    gap = np.float32(settings.gap)
    cell = max(1, round(settings.gap * camera.K[0, 0] / (_RADIUS + 0.5)))
    rows, columns = camera.height // cell + 1 + 2 * _RADIUS, camera.width // cell + 1 + 2 * _RADIUS
    cells = (v // cell + _RADIUS) * columns + u // cell + _RADIUS
    nearest = np.full(rows * columns, np.inf, np.float32)
    np.minimum.at(nearest, cells, z)
    owner = np.zeros(rows * columns, np.intp)
    owns = z == nearest[cells]
    owner[cells[owns]] = np.flatnonzero(owns)
    # Parallax per inverse depth at each point and its direction.
    if T_camera_lidar is None:
        origin = None
        tz = np.float32(0)
        reach = np.full(len(z), _USUAL_BASELINE, np.float32)
    else:
        origin = (T_camera_lidar[:3, 3] + camera.shift).astype(np.float32)
        tz = origin[2]
        d = origin[:2] - xy * tz
        reach = np.sqrt(d[:, 0] * d[:, 0] + d[:, 1] * d[:, 1])
    limit = z * np.float32(1 - settings.margin)
    import cv2

    around = cv2.erode(
        nearest.reshape(rows, columns), np.ones((2 * _RADIUS + 1, 2 * _RADIUS + 1), np.uint8)
    ).ravel()[cells]
    possible = (around < limit) & (
        reach * (z - around) >= around * (z - tz) * np.float32(1 / camera.K[0, 0])
    )
    c = np.flatnonzero(possible)
    if len(c) == 0:
        return mask.reshape(sparse.shape)
    shifts = _OFFSETS[:, 0] * columns + _OFFSETS[:, 1]
    k, j = np.nonzero(nearest[cells[c] + shifts[:, None]] < limit[c])
    n, f = owner[cells[c[j]] + shifts[k]], c[j]
    delta = xy[n] - xy[f]
    swept = reach[f] * (z[f] - z[n]) / (z[n] * (z[f] - tz))
    if origin is None:
        along = np.hypot(delta[:, 0], delta[:, 1])
        crossed = along <= swept
        other = crossed
    else:
        direction = d[f] / reach[f][:, None]
        along = delta[:, 0] * direction[:, 0] + delta[:, 1] * direction[:, 1]
        aside = np.abs(delta[:, 0] * direction[:, 1] - delta[:, 1] * direction[:, 0])
        close = aside <= gap * np.float32(0.4)
        crossed = close & (along >= 0) & (along <= swept)
        other = close & (along < 0)
    has = np.zeros((2, len(c)), bool)
    has[0, j[crossed]] = True
    has[1, j[other]] = True
    mask[pixels[c[has[0] & has[1]]]] = True
    return mask.reshape(sparse.shape)


@functools.lru_cache(maxsize=4)
def _rays(camera: PinholeCamera) -> Float32Array:
    return normalised_pixels(camera)
