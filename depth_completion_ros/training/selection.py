"""Score a network on sources that are set aside, to keep the best of a run.

Not here: the report on held-out data (`depth_completion evaluate`), for which nothing may have
been selected.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from ..completers.base import sparse_depth_of
from ..completers.ip_basic import fill_ip_basic
from ..data import Float32Array, Frame
from ..errors import InputError
from ..evaluation.hold_out import hold_out
from ..evaluation.metrics import kitti_metrics
from ..networks.network import DepthNetwork
from ..settings import OcclusionFilterSettings, ProjectionSettings
from .inputs import InputMaker
from .recipe import DataSettings, SelectionSettings
from .sources import FramePool, Place


class SourceScore(NamedTuple):
    """Hold the mean over the frames of one source.

    Attributes:
        rmse_mm, mae_mm: of the network, as KITTI defines them.
        fill_rmse_mm, fill_mae_mm: of single-scale IP-Basic on the same frames.
        frames: how many.
    """

    rmse_mm: float
    mae_mm: float
    fill_rmse_mm: float
    fill_mae_mm: float
    frames: int

    def ratio(self) -> float:
        """Compare with the fill: the mean of both ratios."""
        return 0.5 * (self.rmse_mm / self.fill_rmse_mm + self.mae_mm / self.fill_mae_mm)


class Score(NamedTuple):
    """Hold the score of a network; lower is better.

    Attributes:
        value: mean of the sources' ratios to the fill, so that no source counts by its scale.
        sources: by name.
    """

    value: float
    sources: dict[str, SourceScore]


class Selector:
    """The frames that select, and the fill's errors on them."""

    def __init__(
        self,
        pool: FramePool,
        inputs: InputMaker,
        settings: SelectionSettings,
        data: DataSettings,
        seed: int,
    ) -> None:
        """Choose the frames, evenly over each source."""
        self._pool, self._inputs, self._seed = pool, inputs, seed
        self._projection = ProjectionSettings(
            min_depth=data.min_depth,
            max_depth=data.max_depth,
            occlusion_filter=OcclusionFilterSettings(enabled=data.occlusion_filter),
        )
        self._places: list[Place] = []
        for number in range(len(pool.sources)):
            places = pool.of_source(number)
            count = min(len(places), settings.frames or len(places))
            chosen = np.linspace(0, len(places) - 1, count).round().astype(int)
            self._places += [places[i] for i in chosen]
        self._fill: dict[Place, tuple[float, float]] = {}

    def score(self, network: DepthNetwork, device: Any) -> Score:
        """Complete every frame and compare with its truth.

        A frame without ground truth has elevation stripes of its LiDAR held out; one without
        LiDAR is completed from 500 random points.

        Args:
            network: on `device`; it is left in the mode it is in.
            device: of torch.

        Raises:
            InputError: a frame cannot be read; what selects has to be whole.
        """
        was_training = network.training
        network.eval()
        rows: dict[str, list[tuple[float, float, float, float]]] = {}
        try:
            for place in self._places:
                frame, truth = self._task(place)
                sparse = sparse_depth_of(frame, self._projection)
                if place not in self._fill:
                    fill = kitti_metrics(fill_ip_basic(sparse), truth)
                    self._fill[place] = (fill.rmse_mm, fill.mae_mm)
                inputs = self._inputs.tensors(frame, sparse, device)
                # Inference mode would mark tensors that training reuses.
                with torch.no_grad():
                    depth = predict(network, inputs).depth[0, 0].float().cpu().numpy()
                found = kitti_metrics(np.maximum(depth, 0), truth)
                rows.setdefault(self._pool.name_of(place), []).append(
                    (found.rmse_mm, found.mae_mm, *self._fill[place])
                )
        finally:
            network.train(was_training)
        sources = {
            name: SourceScore(*(float(m) for m in np.mean(values, 0)), len(values))  # type: ignore[call-arg, arg-type]
            for name, values in rows.items()
        }
        return Score(float(np.mean([s.ratio() for s in sources.values()])), sources)

    def _task(self, place: Place) -> tuple[Frame, Float32Array]:
        example = self._pool.read(place)
        assert example.frame.sparse_depth is not None
        if not example.frame.sparse_depth.any():
            return hold_out(example.frame, "points", seed=self._seed, ground_truth=example.truth)
        if example.truth is None:
            return hold_out(example.frame, "stripes", seed=self._seed)
        if not example.truth.any():
            msg = f"{example.name}: its ground truth is empty; exclude it from the selection"
            raise InputError(msg)
        return example.frame, example.truth


def predict(network: Any, inputs: dict[str, torch.Tensor]) -> Any:
    """Call a network with inputs by name."""
    return network(
        inputs.get("image"), inputs["sparse"], inputs.get("rays"), inputs.get("prefilled")
    )
