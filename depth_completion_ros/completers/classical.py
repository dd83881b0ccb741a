"""`fill`: depth completion without weights, from the measurements' own geometry.

Not here: networks. Look next at `base.py` for the steps every completer shares.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from ..data import Float32Array, Frame
from .base import Completer, Estimate
from .ip_basic import fill_ip_basic


class FillCompleter(Completer):
    """Complete depth by nearest-first morphology; needs no weights and no GPU."""

    name = "fill"
    backend = "opencv"
    device = "cpu"

    def prepare(self, frame: Frame, sparse: Float32Array) -> Float32Array:
        """Take the measurements; the image is not used."""
        return sparse

    def infer(self, inputs: Float32Array) -> Float32Array:
        """Fill the holes."""
        return fill_ip_basic(inputs)

    def refine(self, output: Float32Array, inputs: Float32Array) -> Any:
        """Let the confidence fall with the distance to the nearest measurement."""
        distance = cv2.distanceTransform((inputs == 0).astype(np.uint8), cv2.DIST_L2, 5)
        known = output > 0
        below_top = np.logical_or.accumulate(inputs > 0, axis=0)
        confidence = np.where(below_top, 1 / (1 + 0.05 * distance), 0.1).astype(np.float32)
        confidence = np.where(known, confidence, np.float32(0))
        sigma = np.where(known, 0.02 * output * (1 + distance), np.float32(np.inf))
        return Estimate(output, sigma.astype(np.float32), confidence)
