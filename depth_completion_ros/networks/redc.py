"""ReDC: a backbone and a single deformable pass over its coarse depth.

Not here: the pass itself (`sampling.py`; fused, `triton_refinement.py`) and the backbone
(`enet.py`, or any other `Backbone`).

References:
    Sun et al., Revisiting Deformable Convolution for Depth Completion, IROS 2023,
    arXiv 2308.01905.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import Float32Array
from ..errors import InputError
from ..settings import setting
from .blocks import conv_bn, conv_bn_relu
from .enet import ENet, ENetSettings
from .network import Backbone, DepthNetwork, NetworkOutput
from .prefill import fill_nearest, on_host
from .triton_refinement import refine


@dataclass(frozen=True)
class ReDCSettings(ENetSettings):
    """Choose the form of ReDC; the defaults load the published weights."""

    kernel: int = setting(3, range=(3, 5), help="Taps along one side of the refinement: 3 or 5.")
    head_kernel: int = setting(
        3, range=(1, 3), help="Kernel of the heads: 3 as released, 1 as in the paper."
    )
    reach_window: int = setting(
        15, range=(3, 63), unit="px", help="Side of the window that samples may come from, odd."
    )
    residual: bool = setting(True, help="Add the sum to the map; False replaces the map by it.")
    refined_map: str = setting(
        "coarse",
        choices=("coarse", "sparse", "nearest"),
        help="What the pass refines: the coarse depth; the paper's variant 1, the raw sparse "
        "map; its variant 2, the sparse map filled by the nearest measurement.",
    )

    def __post_init__(self) -> None:
        """Refuse even sizes, which have no centre."""
        super().__post_init__()
        for name in ("kernel", "head_kernel", "reach_window"):
            if getattr(self, name) % 2 == 0:
                msg = f"{name}: found {getattr(self, name)}, expected an odd number"
                raise InputError(msg)


class ReDC(DepthNetwork):
    """Regress k² weights and offsets per pixel from full-size features, and sample once.

    Tensor names are those of the published weights.
    """

    def __init__(
        self, settings: ReDCSettings = ReDCSettings(), backbone: Backbone | None = None
    ) -> None:
        """Put the heads on a backbone; without one on ENet, as published."""
        super().__init__()
        self.settings = settings
        self.backbone = backbone or ENet(settings)
        self.multiple = self.backbone.multiple
        channels, taps = self.backbone.feature_channels[0], settings.kernel**2
        self.dkn_weight = conv_bn_relu(channels, taps, settings.head_kernel)
        self.dkn_offset = conv_bn(channels, 2 * taps, settings.head_kernel)

    @property
    def inputs(self) -> tuple[str, ...]:
        """See `DepthNetwork`."""
        prefilled = ("prefilled",) if self.settings.refined_map == "nearest" else ()
        return (*self.backbone.inputs, *prefilled)

    def prefill(self, sparse: Float32Array) -> Float32Array:
        """Give every pixel (H, W) the nearest measurement, for variant 2."""
        return fill_nearest(sparse)

    def complete(
        self,
        image: Tensor | None,
        sparse: Tensor,
        rays: Tensor | None,
        prefilled: Tensor | None,
    ) -> NetworkOutput:
        """Predict a coarse depth and refine the chosen map; see `DepthNetwork`."""
        coarse = self.backbone.encode(image, sparse, rays)
        weight, offset = self.guidance(coarse.features[0])
        start = coarse.depth
        if self.settings.refined_map == "sparse":
            start = sparse
        elif self.settings.refined_map == "nearest":
            start = on_host(self.prefill, sparse) if prefilled is None else prefilled
        refined = refine(
            start,
            weight,
            offset,
            kernel=self.settings.kernel,
            window=self.settings.reach_window,
            residual=self.settings.residual,
        )
        return NetworkOutput(refined, None, (*coarse.stages, coarse.depth))

    def guidance(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Predict weights (B, k², H, W) in [0.5, 1) and offsets (B, 2k², H, W) in pixels."""
        # The rectifier before the sigmoid is the published form.
        return torch.sigmoid(self.dkn_weight(features)), self.dkn_offset(features)
