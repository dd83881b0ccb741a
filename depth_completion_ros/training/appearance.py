"""Vary how a picture looks: color, noise, night, rain, fog.

Not here: geometry (`augmentation.py`). Weather changes what the LiDAR measures as well; the
functions for that take and give points. Pictures are (H, W, 3) float32 from 0 to 1.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..data import Float32Array
from .augmentation import PixelPoints, Random


def vary_color(image: Float32Array, strength: float, random: Random) -> Float32Array:
    """Change exposure, contrast and the balance of the channels.

    Args:
        image: (H, W, 3) from 0 to 1.
        strength: 1 halves or doubles the gamma at most.
        random: generator.
    """
    gamma = 2 ** (random.uniform(-1, 1) * strength)
    gain = 1 + strength * random.uniform(-0.5, 0.5)
    balance = 1 + strength * random.uniform(-0.25, 0.25, 3)
    middle = float(image.mean())
    contrast = 1 + strength * random.uniform(-0.5, 0.5)
    varied = (image**gamma - middle) * contrast + middle
    return _clipped(varied * gain * balance)


def remove_color(image: Float32Array) -> Float32Array:
    """Keep the mean of the channels."""
    return np.repeat(image.mean(2, keepdims=True), 3, axis=2)


def degrade(image: Float32Array, random: Random) -> Float32Array:
    """Add sensor noise, or defocus, or motion blur."""
    kind = random.random()
    if kind < 0.6:
        return _clipped(image + random.normal(0, random.uniform(0.01, 0.06), image.shape))
    if kind < 0.8:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), random.uniform(0.5, 2.0)), np.float32)
    length = int(random.integers(3, 12))
    kernel = np.full((1, length), 1 / length, np.float32)
    return np.asarray(cv2.filter2D(image, -1, kernel), np.float32)


def darken(image: Float32Array, depth: Float32Array, random: Random) -> Float32Array:
    """Make night: little light, much noise, headlights that reach some way.

    Args:
        image: (H, W, 3) from 0 to 1.
        depth: (H, W) metres, about right; 0 where unknown.
        random: generator.
    """
    ambient = random.uniform(0.01, 0.15)
    reach = random.uniform(8, 30)
    near = np.where(depth > 0, np.exp(-((depth / reach) ** 2)), 0)
    rows = np.linspace(-1.0, 1.0, image.shape[0], dtype=np.float32)[:, None]
    beam = np.exp(-(((rows - 0.4) / 0.5) ** 2))  # headlights look down
    light = ambient + random.uniform(0, 0.6) * near * beam
    dark = image * light[..., None]
    return _clipped(dark + random.normal(0, random.uniform(0.003, 0.03), image.shape))


def fog_picture(image: Float32Array, depth: Float32Array, visibility: float) -> Float32Array:
    """Let the air scatter light.

    Args:
        image: (H, W, 3) from 0 to 1.
        depth: (H, W) metres, about right; 0 counts as far.
        visibility: metres at which contrast has fallen to 5 % (Koschmieder, 1924).
    """
    seen = np.exp(np.log(0.05) / visibility * np.where(depth > 0, depth, 200))[..., None]
    return _clipped(image * seen + 0.8 * (1 - seen))


def fog_points(points: PixelPoints, visibility: float, random: Random) -> PixelPoints:
    """Lose far returns to fog, and get some from the fog itself."""
    # Light goes there and back.
    survives = random.random(len(points.z)) < np.exp(np.log(0.05) / visibility * points.z * 2)
    points = points.where(survives)
    return _scatter_near(points, 0.02 * min(1.0, 50 / visibility), random)


def rain_picture(image: Float32Array, random: Random) -> Float32Array:
    """Draw streaks, dim the light and blur a little."""
    height, width = image.shape[:2]
    streaks = np.zeros((height, width), np.float32)
    slant = random.uniform(-0.3, 0.3)
    for _ in range(int(random.integers(50, 400) * width / 1000) + 1):
        x, y = random.uniform(0, width), random.uniform(-0.1, 1) * height
        length = random.uniform(0.02, 0.12) * height
        ends = ((int(x), int(y)), (int(x + slant * length), int(y + length)))
        cv2.line(streaks, *ends, float(random.uniform(0.05, 0.4)), 1)
    streaks = np.asarray(cv2.GaussianBlur(streaks, (0, 0), 0.7), np.float32)[..., None]
    dim = _clipped(0.5 + (image - 0.5) * random.uniform(0.6, 0.9)) * random.uniform(0.6, 1.0)
    return _clipped(dim * (1 - streaks) + 0.85 * streaks)


def rain_points(points: PixelPoints, random: Random) -> PixelPoints:
    """Lose returns, far ones first, and get some from drops near the sensor."""
    loss = random.uniform(0, 0.3) * np.minimum(1, points.z / 60)
    return _scatter_near(points.where(random.random(len(points.z)) >= loss), 0.004, random)


def _scatter_near(points: PixelPoints, share: float, random: Random) -> PixelPoints:
    """Let a random share of up to `share` of the beams return from a few metres away."""
    hit = random.random(len(points.z)) < random.uniform(0, share)
    near = random.uniform(1, 8, len(points.z)).astype(np.float32)
    return PixelPoints(points.uv, np.where(hit, np.minimum(near, points.z), points.z))


def _clipped(image: np.ndarray) -> Float32Array:
    return np.asarray(np.clip(image, 0, 1), np.float32)
