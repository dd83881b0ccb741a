"""The interface of what runs a network: named arrays in, named arrays out.

Not here: frames, filling, confidence (`completers/learned.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import InputError
from ..networks.model_file import ModelDescription


class Backend(ABC):
    """Run one network on one device; serves one thread.

    Attributes:
        name: of the runtime, as `open_completer` takes it.
        device: `cpu` or `cuda:N`.
        precision: `fp32`, `fp16`, `bf16` or `int8`.
        model: what the file says about the network, with the inputs and outputs of its graph.
        resident: True where frames are projected, prepared and finished on the device, too.
    """

    name: str
    device: str
    precision: str
    model: ModelDescription
    resident = False

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the network once.

        Args:
            arrays: by the names of `model.inputs`, batch 1: image (1, H, W, 3) uint8, the others
                (1, C, H, W) float32; C-contiguous.

        Returns:
            Float32 arrays by the names of `model.outputs`.

        Raises:
            InputError: the size does not suit the network or its graph.
            BackendError: the runtime failed.
        """
        height, width = arrays["sparse"].shape[2:]
        bound, multiple = self.model.size, self.model.multiple
        if bound and (height, width) != bound:
            msg = (
                f"{self.model.network}: found an image of {width}x{height} (padded), expected "
                f"{bound[1]}x{bound[0]}, the size of the exported graph; export it with --size"
            )
            raise InputError(msg)
        if height % multiple or width % multiple:
            msg = f"size: found {width}x{height}, expected multiples of {multiple}"
            raise InputError(msg)
        return self._run(arrays)

    @abstractmethod
    def _run(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Run the network on arrays whose size suits it."""

    def close(self) -> None:  # noqa: B027  most have nothing to give back
        """Give back what was opened."""
