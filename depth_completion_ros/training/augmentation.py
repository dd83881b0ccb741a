"""Vary what was measured and from where: points, sensors and the camera's view.

Not here: the picture's own looks (`appearance.py`) and the order in which samples are made
(`samples.py`). Measurements and truth are lists of points in the image, so that zooming and
turning neither smears nor invents depth. All randomness comes from the generator given.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from ..data import Float32Array, Float64Array, PinholeCamera, UInt8Array
from ..geometry.camera import crop_camera, scale_camera
from ..geometry.transforms import rotation_from_vector

Random = np.random.Generator


class PixelPoints(NamedTuple):
    """Hold points that the image shows.

    Attributes:
        uv: (N, 2) float64 pixels, column before row.
        z: (N,) float32 metres.
    """

    uv: Float64Array
    z: Float32Array

    @classmethod
    def from_map(cls, depth: Float32Array) -> PixelPoints:
        """List the pixels (H, W) that have a depth, row by row."""
        rows, columns = np.nonzero(depth)
        return cls(np.column_stack((columns, rows)).astype(np.float64), depth[rows, columns])

    def where(self, kept: np.ndarray) -> PixelPoints:
        """Keep the points (N,) bool."""
        return PixelPoints(self.uv[kept], self.z[kept])

    def to_map(self, shape: tuple[int, ...]) -> Float32Array:
        """Render (H, W) metres; the nearest wins a pixel."""
        return render(self.uv, self.z, shape)


@dataclass(frozen=True, eq=False)
class View:
    """Hold how an image is cut out of another, and the sensors' geometry that follows.

    Attributes:
        matrix: (2, 3) float64, pixel of the source to pixel of the view, centres at integers.
        camera: of the view.
        T_camera_lidar: (4, 4) of the view, None if unknown.
        scale: factor on all lengths.
        shrink: factor on the image size, for filtering it.
    """

    matrix: Float64Array
    camera: PinholeCamera
    T_camera_lidar: Float64Array | None
    scale: float = 1.0
    shrink: float = 1.0

    @classmethod
    def whole(cls, camera: PinholeCamera, T_camera_lidar: Float64Array | None) -> View:
        """Start with the image as it is."""
        return cls(np.eye(2, 3), camera, T_camera_lidar)

    def cropped(self, left: int, top: int, width: int, height: int) -> View:
        """Keep a part; it may reach beyond the image."""
        return dataclasses.replace(
            self,
            matrix=_after(self.matrix, np.array([[1, 0, -left], [0, 1, -top]])),
            camera=crop_camera(self.camera, left, top, width, height),
        )

    def zoomed(self, width: int, height: int) -> View:
        """Change the size of the image; edges stay edges."""
        x, y = width / self.camera.width, height / self.camera.height
        matrix = np.array([[x, 0, 0.5 * (x - 1)], [0, y, 0.5 * (y - 1)]])
        return dataclasses.replace(
            self,
            matrix=_after(self.matrix, matrix),
            camera=scale_camera(self.camera, width, height),
            shrink=self.shrink * min(x, y),
        )

    def flipped(self) -> View:
        """Mirror left and right: the world, the rig and the principal point."""
        last = self.camera.width - 1
        K = self.camera.K.copy()
        K[0, 2], K[0, 1] = last - K[0, 2], -K[0, 1]
        shift = self.camera.shift * (-1, 1, 1)
        mirror = np.diag((-1.0, 1, 1, 1))  # the camera's x
        T = self.T_camera_lidar
        return dataclasses.replace(
            self,
            matrix=_after(self.matrix, np.array([[-1.0, 0, last], [0, 1, 0]])),
            camera=dataclasses.replace(self.camera, K=K, shift=shift),
            # A LiDAR's left is its y; mirrored twice, the transform stays rigid.
            T_camera_lidar=None if T is None else mirror @ T @ np.diag((1.0, -1, 1, 1)),
        )

    def rotated(self, angle: float) -> View:
        """Turn the camera about its optical axis, clockwise in the image, radians.

        Turning about the principal point keeps every depth and every ray's meaning.
        """
        c, s = np.cos(angle), np.sin(angle)
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        K = self.camera.K
        matrix = (K @ turn @ np.linalg.inv(K))[:2]
        T = self.T_camera_lidar
        turn4 = np.eye(4)
        turn4[:3, :3] = turn
        return dataclasses.replace(
            self,
            matrix=_after(self.matrix, matrix),
            camera=dataclasses.replace(self.camera, shift=turn @ self.camera.shift),
            T_camera_lidar=None if T is None else turn4 @ T,
        )

    def scaled(self, scale: float) -> View:
        """Make the world, and the distance of the sensors, larger."""
        T = self.T_camera_lidar
        if T is not None:
            T = T.copy()
            T[:3, 3] *= scale
        camera = dataclasses.replace(self.camera, shift=scale * self.camera.shift)
        return dataclasses.replace(self, camera=camera, T_camera_lidar=T, scale=self.scale * scale)

    def of_image(self, image: UInt8Array) -> UInt8Array:
        """Cut the view out of an image (H, W, 3); beyond its borders it is mirrored."""
        matrix = self.matrix
        if self.shrink < 0.9:
            # Warping looks at four pixels only; what is shrunk has to be averaged first.
            height, width = image.shape[:2]
            size = (max(1, round(width * self.shrink)), max(1, round(height * self.shrink)))
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
            x, y = width / size[0], height / size[1]
            back = np.array([[x, 0, 0.5 * (x - 1)], [0, y, 0.5 * (y - 1)]])
            matrix = _after(back, matrix)
        return np.asarray(
            cv2.warpAffine(
                image,
                matrix,
                (self.camera.width, self.camera.height),
                flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REFLECT_101,
            )
        )

    def of_points(self, points: PixelPoints) -> PixelPoints:
        """Move points and leave out those outside of the view."""
        uv = points.uv @ self.matrix[:, :2].T + self.matrix[:, 2]
        size = (self.camera.width, self.camera.height)
        inside = np.all((uv > -0.5) & (uv < np.array(size) - 0.5), axis=1)
        return PixelPoints(uv[inside], (points.z[inside] * self.scale).astype(np.float32))

    def of_map(self, depth: Float32Array) -> Float32Array:
        """Cut the view out of a dense map (H, W) metres, without mixing depths; 0 outside."""
        view = cv2.warpAffine(
            depth,
            self.matrix,
            (self.camera.width, self.camera.height),
            flags=cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_CONSTANT,
        )
        return np.asarray(view * np.float32(self.scale), np.float32)


def render(uv: Float64Array, z: Float32Array, shape: tuple[int, ...]) -> Float32Array:
    """Draw points (N, 2) into a map (H, W) metres; the nearest wins a pixel, 0 where none is."""
    height, width = shape
    columns, rows = np.floor(np.asarray(uv) + 0.5).astype(np.intp).T
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    flat = rows[inside] * width + columns[inside]
    depth = np.full(height * width, np.inf, np.float32)
    np.minimum.at(depth, flat, z[inside])
    depth[np.isinf(depth)] = 0
    return depth.reshape(height, width)


def add_range_noise(points: PixelPoints, deviation: float, random: Random) -> PixelPoints:
    """Let measurements scatter, metres; none becomes negative."""
    noise = random.normal(0, deviation, len(points.z)).astype(np.float32)
    return PixelPoints(points.uv, np.maximum(points.z + noise, np.float32(0.1)))


def displace_past_edges(
    points: PixelPoints, share: float, camera: PinholeCamera, random: Random
) -> PixelPoints:
    """Move a share of the points as a LiDAR beside the camera would have seen them.

    Each moves by the parallax of a baseline of up to half a metre against the farthest of all,
    so that background comes to lie on nearer surfaces: see-through points.
    """
    if not len(points.z):
        return points
    chosen = random.random(len(points.z)) < share
    angle, baseline = random.uniform(0, 2 * np.pi), random.uniform(0.1, 0.5)
    # Background moves, foreground stays: against what lies 5 m away.
    parallax = baseline * camera.K[0, 0] * np.maximum(0, 1 / 5 - 1 / np.maximum(points.z, 1))
    shift = parallax[:, None] * (np.cos(angle), np.sin(angle))
    limit = 0.02 * camera.width
    shift = np.clip(shift, -limit, limit)
    return PixelPoints(np.where(chosen[:, None], points.uv + shift, points.uv), points.z)


def misalign(
    points: PixelPoints, camera: PinholeCamera, degrees: float, random: Random
) -> PixelPoints:
    """Turn the points about the camera by a random rotation, as a wrong calibration does."""
    R = rotation_from_vector(np.radians(random.normal(0, degrees, 3)))
    K = camera.K
    homogeneous = np.column_stack((points.uv, np.ones(len(points.z))))
    p = (homogeneous @ np.linalg.inv(K).T) * points.z[:, None] @ R.T
    visible = p[:, 2] > 0.1
    p = p[visible]
    uv = (p / p[:, 2:]) @ K[:2].T
    return PixelPoints(uv, p[:, 2].astype(np.float32))


def outside_regions(points: PixelPoints, camera: PinholeCamera, random: Random) -> np.ndarray:
    """Choose what stays when a region of the view has no points, (N,) bool.

    A few rectangles, everything above a row, or one side: a dirty window, a body in the way, a
    LiDAR mounted low, a cable.
    """
    u, v = points.uv.T / ((camera.width,), (camera.height,))
    kind = random.random()
    if kind < 0.5:
        kept = np.ones(len(u), bool)
        for _ in range(random.integers(1, 8)):
            x, y = random.random(2)
            width, height = random.uniform(0.02, 0.25), random.uniform(0.05, 0.4)
            kept &= ~((abs(u - x) < width / 2) & (abs(v - y) < height / 2))
        return kept
    if kind < 0.8:
        return np.asarray(v > random.uniform(0.2, 0.6))
    limit = random.uniform(0.1, 0.5)
    kept = u > limit if random.random() < 0.5 else u < 1 - limit
    return np.asarray(kept)


def beam_numbers(elevation: Float64Array, height: float) -> np.ndarray:
    """Number the beams (N,) from the lowest, given elevations and the beams' distance, radians."""
    if not len(elevation):
        return np.zeros(0, np.intp)
    return np.asarray(np.floor((elevation - elevation.min()) / height + 0.5), np.intp)


def _after(first: Float64Array, then: Float64Array) -> Float64Array:
    """Join two affine maps (2, 3)."""
    last = np.array([[0.0, 0, 1]])
    joined: Float64Array = then @ np.vstack((first, last))
    return joined
