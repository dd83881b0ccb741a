"""Turn frames into what a network takes, in training as in use.

Not here: augmentation (`samples.py`). Look next at `completers/learned.py`, which does the same
for graphs of any backend.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..completers.fill import fill_depth
from ..data import Float32Array, Frame
from ..geometry.camera import normalised_pixels
from ..networks.registry import build_network

# What comes with a sample beside the inputs.
INPUTS = ("image", "sparse", "rays", "prefilled")


class InputMaker:
    """Make the inputs of one network.

    Attributes:
        names: of the inputs, as `DepthNetwork.inputs` gives them.
    """

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        """Ask the network what it takes.

        Raises:
            InputError: no such network or setting.
        """
        with torch.device("meta"):  # for its questions only; it needs no weights
            self._network = build_network(name, **settings)
        self.names = self._network.inputs
        # Ours starts from the best fill there is, published networks from their own.
        self._starts_from_fill = name == "redc_lite"

    def arrays(self, frame: Frame, sparse: Float32Array) -> dict[str, np.ndarray]:
        """Make the inputs of one frame.

        Args:
            frame: with an undistorted camera.
            sparse: (H, W) metres, what is left of its measurements.

        Returns:
            Float32 arrays by name, (C, H, W) each; the image from 0 to 255.
        """
        arrays: dict[str, np.ndarray] = {"sparse": sparse[None]}
        if "image" in self.names:
            arrays["image"] = frame.image.transpose(2, 0, 1).astype(np.float32)
        if "rays" in self.names:
            rays = np.nan_to_num(normalised_pixels(frame.camera))
            arrays["rays"] = np.ascontiguousarray(rays.transpose(2, 0, 1))
        if "prefilled" in self.names:
            arrays["prefilled"] = self._prefilled(sparse)[None]
        return arrays

    def _prefilled(self, sparse: Float32Array) -> Float32Array:
        if not self._starts_from_fill:
            return self._network.prefill(sparse)
        filled = fill_depth(sparse)
        return np.zeros_like(sparse) if filled is None else filled.depth

    def tensors(self, frame: Frame, sparse: Float32Array, device: Any) -> dict[str, Tensor]:
        """Make the inputs of one frame as a batch of one on a device."""
        arrays = self.arrays(frame, sparse)
        return {
            name: torch.from_numpy(np.ascontiguousarray(array))[None].to(device)
            for name, array in arrays.items()
            if name in self.names
        }
