"""From a dense depth to the fields of the messages that are published.

Not here: publishing (`publishers.py`). No ROS is imported.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import DenseDepth, Float32Array, PinholeCamera, UInt8Array
from ..evaluation.pictures import colorize_depth
from ..geometry.camera import normalised_pixels, scale_camera
from ..messages.camera_info import camera_info_fields
from ..messages.image import compressed_depth_fields, depth_image_fields, image_fields
from ..messages.points import organised_points_fields
from ..settings import OutputSettings


@dataclasses.dataclass(frozen=True, eq=False)
class OutputMaps:
    """Hold the maps as they are published, after limits, threshold and scale.

    Attributes:
        depth, sigma, confidence, sparse: (h, w) float32 with the meanings of `DenseDepth`.
        image: (h, w, 3) uint8 RGB.
        camera: of exactly this size.
    """

    depth: Float32Array
    sigma: Float32Array
    confidence: Float32Array
    sparse: Float32Array
    image: UInt8Array
    camera: PinholeCamera


def shape_outputs(
    dense: DenseDepth, image: UInt8Array, camera: PinholeCamera, settings: OutputSettings
) -> OutputMaps:
    """Apply what the user set for the outputs.

    An estimate that is removed is removed from all three maps: no depth, no confidence, infinite
    sigma. Smaller maps take the value of the nearest pixel, because a mean of two surfaces is none
    of them; of the measurements that fall onto one pixel the nearest to the camera stays.

    Args:
        dense: what the completer gave.
        image: (H, W, 3) uint8 RGB.
        camera: of the image.
        settings: limits, threshold and scale.

    Returns:
        The maps; arrays of `dense` that need no change are taken as they are.
    """
    depth, sigma, confidence = dense.depth, dense.sigma, dense.confidence
    removed = _removed(dense, settings)
    if removed is not None:
        depth = np.where(removed, np.float32(0), depth)
        confidence = np.where(removed, np.float32(0), confidence)
        sigma = np.where(removed, np.float32(np.inf), sigma)
    sparse = dense.sparse
    if settings.scale != 1.0:
        width = max(1, round(camera.width * settings.scale))
        height = max(1, round(camera.height * settings.scale))
        rows, columns = _nearest(camera.height, height), _nearest(camera.width, width)
        pick = np.ix_(rows, columns)
        depth, sigma, confidence, image = depth[pick], sigma[pick], confidence[pick], image[pick]
        sparse = _scale_sparse(sparse, height, width)
        camera = scale_camera(camera, width, height)
    return OutputMaps(depth, sigma, confidence, sparse, image, camera)


def _removed(dense: DenseDepth, settings: OutputSettings) -> NDArray[np.bool_] | None:
    removed: NDArray[np.bool_] | None = None
    if settings.confidence_threshold > 0:
        removed = dense.confidence < settings.confidence_threshold
    if settings.min_depth > 0 or float(dense.depth.max(initial=0)) > settings.max_depth:
        outside = (dense.depth < settings.min_depth) | (dense.depth > settings.max_depth)
        removed = outside if removed is None else removed | outside
    return removed


def _nearest(size: int, new_size: int) -> NDArray[np.intp]:
    """Give the index before scaling whose centre is nearest to that of every pixel after."""
    centres = (np.arange(new_size) + 0.5) * size / new_size
    return np.minimum(centres.astype(np.intp), size - 1)


def _scale_sparse(sparse: Float32Array, height: int, width: int) -> Float32Array:
    v, u = np.nonzero(sparse)
    scaled = np.full((height, width), np.inf, np.float32)
    rows, columns = v * height // sparse.shape[0], u * width // sparse.shape[1]
    np.minimum.at(scaled, (rows, columns), sparse[v, u])
    scaled[np.isinf(scaled)] = 0
    return scaled


class OutputFields:
    """Make the fields of one output at a time, so that a topic nobody hears costs nothing."""

    def __init__(self) -> None:
        """Start without cached rays."""
        self._rays: Float32Array | None = None
        self._rays_camera: PinholeCamera | None = None

    def make(self, topic: str, maps: OutputMaps, settings: OutputSettings) -> dict[str, Any]:
        """Give the fields of one message, without its header.

        Args:
            topic: relative name as in the contract.
            maps: what to publish.
            settings: encoding, colour range and confidence of points.

        Raises:
            KeyError: no such output.
        """
        if topic == "depth/image":
            return depth_image_fields(maps.depth, settings.encoding)
        if topic == "depth/camera_info":
            return camera_info_fields(maps.camera)
        if topic == "confidence/image":
            return image_fields(maps.confidence, "32FC1")
        if topic == "sigma/image":
            return image_fields(maps.sigma, "32FC1")
        if topic == "sparse_depth/image":
            return depth_image_fields(maps.sparse, "32FC1")
        if topic == "depth/color":
            return image_fields(colorize_depth(maps.depth, *settings.color_range), "rgb8")
        if topic == "depth/image/compressedDepth":
            return compressed_depth_fields(maps.depth)
        if topic == "depth/points":
            return self._points(maps, settings)
        raise KeyError(topic)

    def _points(self, maps: OutputMaps, settings: OutputSettings) -> dict[str, Any]:
        camera = maps.camera
        if self._rays is None or self._rays_camera != camera:
            self._rays, self._rays_camera = normalised_pixels(camera), camera
        keep = (maps.depth > 0) & (maps.confidence >= settings.points_confidence)
        z = np.where(keep, maps.depth, np.float32(np.nan))
        xyz = np.empty((*z.shape, 3), np.float32)
        xyz[..., 0] = self._rays[..., 0] * z
        xyz[..., 1] = self._rays[..., 1] * z
        xyz[..., 2] = z
        if np.any(camera.shift):
            xyz -= camera.shift.astype(np.float32)
        return organised_points_fields(xyz, maps.image, maps.confidence)
