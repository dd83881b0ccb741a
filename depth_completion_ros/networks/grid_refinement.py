"""The deformable pass as one grid sampling, and graphs that contain it whole.

For TensorRT and other runtimes on GPUs, which have this operator but neither our kernel nor a
library routine beside them. On a CPU it is slow: `backends/refinement.py` is what runs there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .export import Graph
from .guidance import CENTRE, LEAST_SHARE, centred_taps, published_taps
from .model_file import COARSE, GUIDANCE, WHOLE
from .network import DepthNetwork
from .redc_lite import enlarge
from .sampling import divide_by_sum, subtract_mean


def add_samples_by_grid(
    start: Tensor,
    depth: Tensor,
    weight: Tensor,
    offset: Tensor,
    taps: Sequence[tuple[float, float]],
    normalise: Callable[[Tensor], Tensor],
    *,
    reach: float,
    repeat_border: bool = False,
) -> Tensor:
    """Add a weighted sum of bilinear samples around each pixel to a map.

    Arguments and result are those of `sampling.add_samples`, but the taps, which are numbers.
    Positions in the map are rounded: at a step of 15 m from pixel to pixel by 3 mm.
    """
    start, depth, weight, offset = (x.float() for x in (start, depth, weight, offset))
    batch, _, height, width = depth.shape
    count = len(taps)
    places = torch.tensor(taps, device=offset.device).view(1, count, 2, 1, 1)
    shift = offset.reshape(batch, count, 2, height, width) + places
    fade = (reach + 1 - shift.abs()).clamp(0, 1)
    weight = normalise(weight) * fade[:, :, 0] * fade[:, :, 1]
    shift = shift.clamp(-reach, reach)
    x = torch.arange(width, device=depth.device, dtype=torch.float32)
    y = torch.arange(height, device=depth.device, dtype=torch.float32)[:, None]
    # From -1 at the first pixel's centre to 1 at the last one's; a map of one pixel has no step.
    u = (shift[:, :, 0] + x) * (2.0 / max(width - 1, 1)) - 1  # (B, T, H, W)
    v = (shift[:, :, 1] + y) * (2.0 / max(height - 1, 1)) - 1
    grid = torch.stack((u, v), dim=-1).reshape(batch, count * height, width, 2)
    border = "border" if repeat_border else "zeros"
    samples = F.grid_sample(depth, grid, padding_mode=border, align_corners=True)
    samples = samples.reshape(batch, count, height, width)
    return start + (weight * samples).sum(1, keepdim=True)


class GridRefinement(nn.Module):
    """The pass of ReDC alone: depth (B, 1, H, W), weight and offset in, refined depth out."""

    def __init__(self, *, kernel: int = 3, window: int = 15, residual: bool = True) -> None:
        """Choose the form; see `sampling.refine`."""
        super().__init__()
        self.taps = published_taps(kernel)
        self.reach = (window - 1) / 2
        self.residual = residual

    def forward(self, depth: Tensor, weight: Tensor, offset: Tensor) -> Tensor:
        """Refine as `sampling.refine` does."""
        start = depth if self.residual else torch.zeros_like(depth)
        normalise = subtract_mean if self.residual else divide_by_sum
        return add_samples_by_grid(
            start, depth, weight, offset, self.taps, normalise, reach=self.reach
        )


class WholeGraph(nn.Module):
    """A `Graph` that goes on through the pass: it gives depth, and sigma or disagreement."""

    def __init__(self, network: DepthNetwork) -> None:
        """Choose what the graph of this network gives."""
        super().__init__()
        self.network = network
        self.parts = Graph(network)
        self.inputs = self.parts.inputs
        finished: dict[tuple[str, ...], tuple[str, ...]] = {
            GUIDANCE: ("depth", "sigma"),
            COARSE: WHOLE,
        }
        self.outputs = finished.get(self.parts.outputs, self.parts.outputs)

    def forward(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        """Run the network on `inputs`; give `outputs`, all (1, 1, H, W) metres."""
        parts = self.parts(*arrays)
        if self.parts.outputs == COARSE:
            return self._refine(*parts)
        if self.parts.outputs == GUIDANCE:
            return self._correct(arrays[self.inputs.index("prefilled")], *parts)
        return tuple(parts)

    def _refine(
        self, coarse: Tensor, disagreement: Tensor, weight: Tensor, offset: Tensor
    ) -> tuple[Tensor, Tensor]:
        settings = self.network.settings
        depth = add_samples_by_grid(
            coarse if settings.residual else torch.zeros_like(coarse),
            coarse,
            weight,
            offset,
            published_taps(settings.kernel),
            nn.Identity(),  # the parts are normalised
            reach=(settings.reach_window - 1) / 2,
        )
        return depth, disagreement

    def _correct(
        self,
        prefilled: Tensor,
        correction: Tensor,
        log_sigma: Tensor,
        weight: Tensor,
        offset: Tensor,
    ) -> tuple[Tensor, Tensor]:
        start = torch.where(prefilled > 0, prefilled, math.exp(CENTRE))
        coarse = start * torch.exp(enlarge(correction))
        taps = centred_taps(self.network.settings.kernel)
        depth = add_samples_by_grid(
            coarse,
            coarse,
            F.interpolate(weight, scale_factor=2, mode="nearest"),
            F.interpolate(offset, scale_factor=2, mode="nearest"),
            taps,
            nn.Identity(),
            reach=self.network.settings.max_offset + max(max(tap) for tap in taps),
            repeat_border=True,
        )
        depth = torch.maximum(depth, LEAST_SHARE * coarse)
        return depth, depth * torch.exp(enlarge(log_sigma))
