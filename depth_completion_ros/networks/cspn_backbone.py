"""The sparse-to-dense ResNet-34, which CSPN++ was published on.

Not here: the propagation on top of it (`cspn_plus.py`).

References:
    Ma et al., Self-supervised Sparse-to-Dense: Self-supervised Depth Completion from LiDAR and
    Monocular Camera, ICRA 2019, arXiv 1807.00275; the pyramid pooling: Cheng et al., CSPN++,
    AAAI 2020, arXiv 1911.05377.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..settings import CheckedSettings, setting
from .blocks import conv_bn, conv_bn_relu, deconv_bn_relu
from .network import Backbone, BackboneOutput, required_image

# Blocks of ResNet-34's layers 1 to 4, at full size, 1/2, 1/4 and 1/8.
BLOCKS = (3, 4, 6, 3)
# Cells along one side of the maps that pyramid pooling averages to; the source has lost its own.
PYRAMID = (1, 2, 4, 8)


@dataclass(frozen=True)
class SparseToDenseSettings(CheckedSettings):
    """Choose the form of the ResNet-34."""

    width: float = setting(
        1.0, range=(0.015625, 2.0), help="Factor on all channel counts but inputs and outputs."
    )
    pyramid: bool = setting(False, help="Pool the deepest features over a pyramid of regions.")


class SparseToDense(Backbone):
    """Encode color and depth together, and decode with skip connections."""

    multiple = 16

    def __init__(self, settings: SparseToDenseSettings = SparseToDenseSettings()) -> None:
        """Build it with torch's default initialisation."""
        super().__init__()
        self.settings = settings
        color, depth, *c = (max(1, round(settings.width * n)) for n in (48, 16, 64, 128, 256, 512))
        stem = color + depth
        self.color_stem = conv_bn_relu(3, color)
        self.depth_stem = conv_bn_relu(1, depth)
        self.layers = nn.ModuleList()
        wide = stem
        for level, (channels, blocks) in enumerate(zip(c, BLOCKS, strict=True)):
            first = BasicBlock(wide, channels, stride=1 if level == 0 else 2)
            rest = (BasicBlock(channels, channels) for _ in range(blocks - 1))
            self.layers.append(nn.Sequential(first, *rest))
            wide = channels
        self.bottom = conv_bn_relu(c[3], c[3], stride=2)
        self.pyramid = PyramidPooling(c[3]) if settings.pyramid else None
        # The map of the same size is concatenated to the output of each.
        self.decoder = nn.ModuleList(
            (
                deconv_bn_relu(c[3], c[2], kernel=3),
                deconv_bn_relu(c[2] + c[3], c[1], kernel=3),
                deconv_bn_relu(c[1] + c[2], c[0], kernel=3),
                deconv_bn_relu(c[0] + c[1], c[0], kernel=3),
                deconv_bn_relu(c[0] + c[0], c[0], kernel=3, stride=1),
            )
        )
        self.feature_channels = (c[0] + stem, c[0] + c[1], c[1] + c[2])
        self.depth_head = nn.Conv2d(self.feature_channels[0], 1, 1)

    def encode(self, image: Tensor | None, sparse: Tensor, rays: Tensor | None) -> BackboneOutput:
        """Predict coarse depth and features; see `Backbone`."""
        image = required_image(image) / 255
        stem = torch.cat((self.color_stem(image), self.depth_stem(sparse)), 1)
        encoded = []  # (B, C_l, H / 2^l, W / 2^l)
        x = stem
        for layer in self.layers:
            x = layer(x)
            encoded.append(x)
        x = self.bottom(x)
        if self.pyramid is not None:
            x = self.pyramid(x)
        skips = (*encoded[::-1], stem)
        decoded = []  # at 1/8, 1/4, 1/2 and twice full size
        for up, skip in zip(self.decoder, skips, strict=True):
            x = torch.cat((up(x), skip), 1)
            decoded.append(x)
        features = (decoded[4], decoded[2], decoded[1])
        return BackboneOutput(self.depth_head(x), (), features)


class BasicBlock(nn.Module):
    """Two convolutions and a shortcut, the block of ResNet-18 and ResNet-34."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1) -> None:
        """Project the shortcut where shapes differ."""
        super().__init__()
        self.branch = nn.Sequential(
            *conv_bn_relu(channels_in, channels, stride=stride), *conv_bn(channels, channels)
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = conv_bn(channels_in, channels, kernel=1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, H, W) to (B, channels, H / stride, W / stride)."""
        return F.relu(self.branch(x) + self.shortcut(x))


class PyramidPooling(nn.Module):
    """Tell every place what larger and larger regions around it look like."""

    def __init__(self, channels: int) -> None:
        """Give each level of the pyramid a quarter of the channels."""
        super().__init__()
        narrow = max(1, channels // len(PYRAMID))
        # No normalisation: the coarsest map is one value, which has no variance at batch 1.
        self.levels = nn.ModuleList(nn.Conv2d(channels, narrow, 1) for _ in PYRAMID)
        self.merge = conv_bn_relu(channels + narrow * len(PYRAMID), channels)

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, C, H, W) to the same size and channels."""
        size = x.shape[2:]
        parts = [x]
        for side, level in zip(PYRAMID, self.levels, strict=True):
            pooled = F.relu(level(average_regions(x, side)))
            parts.append(F.interpolate(pooled, size, mode="bilinear", align_corners=False))
        y: Tensor = self.merge(torch.cat(parts, 1))
        return y


def average_regions(x: Tensor, side: int) -> Tensor:
    """Average (B, C, H, W) over side x side regions, which overlap where sides do not divide.

    What torch's adaptive pooling does, as products with matrices, which ONNX knows.
    """
    rows, columns = (_regions(int(n), side).to(x) for n in x.shape[2:])
    return rows @ x @ columns.T


def _regions(size: int, count: int) -> Tensor:
    """Make the matrix (count, size) that averages regions of a row."""
    rows = []
    for i in range(count):
        first, last = i * size // count, -(-(i + 1) * size // count)
        rows.append([(first <= j < last) / (last - first) for j in range(size)])
    return torch.tensor(rows)
