"""CDSPN: PENet made compact by depthwise-separable convolutions, with any refinement on top.

Not here: the refinements (`penet.py`, `redc.py`, `cspn_plus.py`) and how layers are pruned.

References:
    Wang, thesis, 2023, after Hu et al., PENet, ICRA 2021, arXiv 2103.00783. Attention for the
    ablation: Hu et al., Squeeze-and-Excitation Networks, CVPR 2018, arXiv 1709.01507; Hou et
    al., Coordinate Attention, CVPR 2021, arXiv 2103.02907.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data import Float32Array
from ..settings import CheckedSettings, setting
from .cspn_plus import CSPNPlus, CSPNPlusSettings
from .network import Backbone, BackboneOutput, DepthNetwork, NetworkOutput, required_image
from .penet import PENet, PENetSettings
from .redc import ReDC, ReDCSettings


@dataclass(frozen=True)
class CDSPNSettings(CheckedSettings):
    """Choose the form of CDSPN."""

    width: int = setting(
        1, range=(1, 8), help="Factor m on the channels: x32, x64, x96 of 1, 2, 3."
    )
    refinement: str = setting(
        "da-cspn++",
        choices=("none", "da-cspn++", "cspn", "cspn++", "cspn++ resource", "deformable"),
        help="What follows the backbone: PENet's dilated CSPN++ on two maps (published), plain "
        "CSPN, Cheng's CSPN++ context or resource aware, or ReDC's deformable pass.",
    )
    attention: str = setting(
        "none",
        choices=("none", "squeeze", "coordinate"),
        help="Attention in every layer, for the ablation: squeeze-and-excitation or coordinate.",
    )


class CDSPN(DepthNetwork):
    """Complete depth with the compact backbone and the refinement of choice."""

    def __init__(self, settings: CDSPNSettings = CDSPNSettings()) -> None:
        """Put the refinement on a new backbone."""
        super().__init__()
        self.settings = settings
        self.network = _refined(CDSPNBackbone(settings), settings.refinement)
        self.multiple = self.network.multiple

    @property
    def inputs(self) -> tuple[str, ...]:
        """See `DepthNetwork`."""
        return self.network.inputs

    def prefill(self, sparse: Float32Array) -> Float32Array:
        """See `DepthNetwork`."""
        return self.network.prefill(sparse)

    def complete(
        self,
        image: Tensor | None,
        sparse: Tensor,
        rays: Tensor | None,
        prefilled: Tensor | None,
    ) -> NetworkOutput:
        """See `DepthNetwork`."""
        return self.network.complete(image, sparse, rays, prefilled)


def _refined(backbone: CDSPNBackbone, refinement: str) -> DepthNetwork:
    if refinement == "da-cspn++":
        return PENet(PENetSettings(), backbone)
    if refinement == "deformable":
        return ReDC(ReDCSettings(), backbone)
    forms = {"cspn": "plain", "cspn++": "context", "cspn++ resource": "resource"}
    if refinement in forms:
        return CSPNPlus(CSPNPlusSettings(form=forms[refinement]), backbone)
    return backbone


class CDSPNBackbone(Backbone):
    """Fuse a color-dominant and a depth-dominant estimate by their learned confidences.

    Layers are named as in the thesis's table.
    """

    multiple = 16

    def __init__(self, settings: CDSPNSettings = CDSPNSettings()) -> None:
        """Build the layers of the table."""
        super().__init__()
        self.settings = settings
        a, b, c, d = (settings.width * n for n in (32, 64, 128, 256))
        self.feature_channels = (2 * a, 2 * a, 2 * b)
        rows = {
            # name: channels in and out, kernel, stride
            "rgb_init": (4, a, 5, 1),
            "rgb_e1": (a, a, 3, 2),
            "rgb_e2": (a, a, 3, 1),
            "rgb_e2_2": (a, a, 3, 1),
            "rgb_e3": (a, b, 3, 2),
            "rgb_e4": (b, b, 3, 1),
            "rgb_e4_2": (b, b, 3, 1),
            "rgb_e5": (b, c, 3, 2),
            "rgb_e6": (c, c, 3, 1),
            "rgb_e7": (c, d, 3, 2),
            "rgb_e8": (d, d, 3, 1),
            "rgb_d1": (d, c, 3, 1),
            "rgb_d2": (c, b, 3, 1),
            "rgb_d3": (b, a, 3, 1),
            "rgb_d4": (a, a, 3, 1),
            "rgb_d5": (a, 2, 3, 1),
            "depth_init": (2, a, 5, 1),
            "depth_e1": (a, a, 3, 2),
            "depth_e2": (a, a, 3, 1),
            "depth_e2_2": (a, a, 3, 1),
            "depth_e3": (2 * a, b, 3, 2),
            "depth_e4": (b, b, 3, 1),
            "depth_e5": (2 * b, c, 3, 2),
            "depth_e6": (c, c, 3, 1),
            "depth_d1": (2 * c, b, 3, 1),
            "depth_d2": (b, a, 3, 1),
            "depth_d3": (a, a, 3, 1),
            "depth_d4": (a, 2, 3, 1),
        }
        for name, (channels_in, channels, kernel, stride) in rows.items():
            # The two outputs of a branch are a depth and a confidence: nothing to attend to.
            attention = "none" if channels == 2 else settings.attention
            self.add_module(name, SeparableLayer(channels_in, channels, kernel, stride, attention))

    def encode(self, image: Tensor | None, sparse: Tensor, rays: Tensor | None) -> BackboneOutput:
        """Predict coarse depth and features; see `Backbone`."""
        image = required_image(image)

        # Color-dominant branch; x is (B, 32m, H, W), x2 (B, 32m, H / 2, W / 2), ...
        x = self._run(torch.cat((image, sparse), 1), "rgb_init")
        x2 = self._run(x, "rgb_e1", "rgb_e2", "rgb_e2_2")
        x4 = self._run(x2, "rgb_e3", "rgb_e4", "rgb_e4_2")
        x8 = self._run(x4, "rgb_e5", "rgb_e6")
        x16 = self._run(x8, "rgb_e7", "rgb_e8")
        # What is decoded is handed on with the skip connection added.
        y8 = self._run(enlarge(x16), "rgb_d1") + x8
        y4 = self._run(enlarge(y8), "rgb_d2") + x4
        y2 = self._run(enlarge(y4), "rgb_d3") + x2
        y = self._run(enlarge(y2), "rgb_d4") + x
        rgb_depth, rgb_confidence = torch.split(self._run(y, "rgb_d5"), 1, 1)

        # Depth-dominant branch.
        z = self._run(torch.cat((sparse, rgb_depth), 1), "depth_init")
        z2 = self._run(z, "depth_e1", "depth_e2", "depth_e2_2")
        z4 = self._run(torch.cat((y2, z2), 1), "depth_e3", "depth_e4")
        z8 = self._run(torch.cat((y4, z4), 1), "depth_e5", "depth_e6")
        w4 = self._run(enlarge(torch.cat((y8, z8), 1)), "depth_d1")
        w2 = self._run(enlarge(z4 + w4), "depth_d2")
        w = self._run(enlarge(z2 + w2), "depth_d3")
        sparse_depth, sparse_confidence = torch.split(self._run(w, "depth_d4"), 1, 1)

        confidence = torch.softmax(torch.cat((rgb_confidence, sparse_confidence), 1), 1)
        depth = confidence[:, :1] * rgb_depth + confidence[:, 1:] * sparse_depth
        features = (torch.cat((y, w), 1), torch.cat((y2, w2), 1), torch.cat((y4, w4), 1))
        return BackboneOutput(depth, (rgb_depth, sparse_depth), features)

    def _run(self, x: Tensor, *names: str) -> Tensor:
        for name in names:
            x = self.get_submodule(name)(x)
        return x


class SeparableLayer(nn.Module):
    """Convolve each channel by itself, then mix channels; identity residual where shapes match."""

    def __init__(
        self,
        channels_in: int,
        channels: int,
        kernel: int = 3,
        stride: int = 1,
        attention: str = "none",
    ) -> None:
        """Build it with torch's default initialisation."""
        super().__init__()
        self.depthwise = nn.Conv2d(
            channels_in,
            channels_in,
            kernel,
            stride,
            padding=kernel // 2,
            groups=channels_in,
            bias=False,
        )
        self.pointwise = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.attention: nn.Module = nn.Identity()
        if attention == "squeeze":
            self.attention = SqueezeExcitation(channels)
        elif attention == "coordinate":
            self.attention = CoordinateAttention(channels)
        self.residual = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, H, W) to (B, channels, H / stride, W / stride)."""
        y = self.attention(self.norm(self.pointwise(self.depthwise(x))))
        return F.relu(y + x if self.residual else y)


class SqueezeExcitation(nn.Module):
    """Weigh channels by what the whole image looks like."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        """Squeeze to a fraction of the channels."""
        super().__init__()
        narrow = max(1, channels // reduction)
        self.squeeze = nn.Conv2d(channels, narrow, 1)
        self.excite = nn.Conv2d(narrow, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Weigh (B, C, H, W)."""
        pooled = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.excite(F.relu(self.squeeze(pooled))))


class CoordinateAttention(nn.Module):
    """Weigh channels by what the rows and columns of a pixel look like."""

    def __init__(self, channels: int, reduction: int = 32) -> None:
        """Squeeze to a fraction of the channels, 8 at least, as published."""
        super().__init__()
        narrow = max(8, channels // reduction)
        self.squeeze = nn.Conv2d(channels, narrow, 1)
        self.norm = nn.BatchNorm2d(narrow)
        self.rows = nn.Conv2d(narrow, channels, 1)
        self.columns = nn.Conv2d(narrow, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Weigh (B, C, H, W)."""
        height = x.shape[2]
        along_rows = x.mean(3, keepdim=True)  # (B, C, H, 1)
        along_columns = x.mean(2, keepdim=True).transpose(2, 3)  # (B, C, W, 1)
        both = self.squeeze(torch.cat((along_rows, along_columns), 2))
        both = F.hardswish(self.norm(both))
        rows = torch.sigmoid(self.rows(both[:, :, :height]))
        columns = torch.sigmoid(self.columns(both[:, :, height:].transpose(2, 3)))
        return x * rows * columns


def enlarge(x: Tensor) -> Tensor:
    """Double the size of (B, C, H, W)."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
