"""`fill`: depth completion without weights, from the measurements' own geometry.

Not here: networks (`learned.py`). Look next at `base.py` for the steps every completer shares, at
`fill.py` for the depth and at `fill_confidence.py` for how far to trust it.
"""

from __future__ import annotations

import numpy as np

from ..data import Float32Array, Frame
from .base import Completer, Estimate
from .fill import Filled, fill_depth
from .fill_confidence import estimate_confidence


class FillCompleter(Completer):
    """Complete depth by nearest-first morphology and planes; needs no weights and no GPU."""

    name = "fill"
    backend = "opencv"
    device = "cpu"

    def prepare(self, frame: Frame, sparse: Float32Array) -> Float32Array:
        """Take the measurements; the image is not used."""
        return sparse

    def infer(self, inputs: Float32Array) -> Filled | None:
        """Fill the holes; None without any measurement."""
        return fill_depth(inputs)

    def refine(self, output: Filled | None, inputs: Float32Array) -> Estimate:
        """Add sigma and confidence; without a measurement there is no estimate anywhere."""
        if output is None:
            nothing = np.zeros_like(inputs)
            return Estimate(nothing, np.full_like(inputs, np.inf), nothing.copy())
        confidence, sigma = estimate_confidence(output)
        return Estimate(output.depth, sigma, confidence)
