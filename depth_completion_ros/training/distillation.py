"""A teacher's depth for whole frames: another network, or a folder of predictions.

Not here: the loss (`losses.py`). A network's predictions are kept on disk, so that a teacher
costs one pass over the data, whatever it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..completers.base import sparse_depth_of
from ..data import Float32Array
from ..datasets.depth_png import read_depth_png, write_depth_png
from ..errors import InputError
from ..networks.checkpoint import open_network
from ..networks.registry import name_of
from ..settings import ProjectionSettings
from .inputs import InputMaker
from .selection import predict
from .sources import Example, FramePool


class Teacher:
    """Give the teacher's depth of a frame; black box, only its depth is asked for."""

    def __init__(self, path: Path, cache: Path) -> None:
        """Find the teacher.

        Args:
            path: a model file, or a folder with `depth/NAME.png` as `complete` writes it.
            cache: folder for a network's predictions.

        Raises:
            InputError: there is neither.
        """
        self._folder: Path | None = None
        self._model = path
        if path.is_dir():
            self._folder = path / "depth" if (path / "depth").is_dir() else path
        elif not path.is_file():
            msg = f"{path}: no such file; expected a model file or a folder of predictions"
            raise InputError(msg)
        self._cache = cache

    def prepare(
        self, pool: FramePool, projection: ProjectionSettings, device: Any
    ) -> Iterator[int]:
        """Predict what is not there yet.

        Yields:
            How many frames are done, after each.

        Raises:
            InputError, ModelFileError: a frame or the network cannot be read, or a folder lacks
                a prediction.
        """
        if self._folder is not None:
            self._check_folder(pool)
            return
        network, _ = open_network(self._model)
        network.to(device)
        inputs = InputMaker(name_of(network), _settings_of(network))
        for done, place in enumerate(pool.places, 1):
            example = pool.read(place)
            path = self._cache / f"{example.name}.png"
            if not path.is_file():
                sparse = sparse_depth_of(example.frame, projection)
                if sparse.any():
                    with torch.no_grad():
                        output = predict(network, inputs.tensors(example.frame, sparse, device))
                    depth = output.depth[0, 0].float().cpu().numpy()
                else:
                    depth = np.zeros(sparse.shape, np.float32)
                write_depth_png(path, np.clip(depth, 0, 255).astype(np.float32))
            yield done

    def _check_folder(self, pool: FramePool) -> None:
        """Make sure that every frame has a prediction, before a day of training ends here."""
        assert self._folder is not None
        wanted = {pool.sources[p.source].names[p.number] for p in pool.places}
        missing = sorted(name for name in wanted if not (self._folder / f"{name}.png").is_file())
        if missing:
            msg = (
                f"{self._folder}: no prediction of {len(missing)} frames of {len(wanted)}, "
                f"{missing[0]}.png for example; complete all of them with the teacher first"
            )
            raise InputError(msg)

    def __call__(self, example: Example) -> Float32Array:
        """Give (H, W) float32 metres of a whole frame, 0 where the teacher says nothing.

        Raises:
            InputError: there is no prediction for the frame, or of another size.
        """
        name = example.frame.name if self._folder is not None else example.name
        path = (self._folder or self._cache) / f"{name}.png"
        if not path.is_file():
            msg = f"{path}: not found, expected the teacher's depth of every training frame"
            raise InputError(msg)
        depth = read_depth_png(path)
        if depth.shape != example.frame.image.shape[:2]:
            camera = example.frame.camera
            msg = (
                f"{path}: found {depth.shape[1]}x{depth.shape[0]}, expected the size of the "
                f"image, {camera.width}x{camera.height}"
            )
            raise InputError(msg)
        return depth


def _settings_of(network: Any) -> dict[str, Any]:
    import dataclasses

    return dataclasses.asdict(network.settings)
