"""LRRU: start from a classically filled map and update it four times, from far to near.

Not here: the fill (`prefill.py`) and the deformable sampling that the updates share with ReDC
(`sampling.py`).

References:
    Wang et al., LRRU: Long-short Range Recurrent Updating Networks for Depth Completion,
    ICCV 2023, arXiv 2310.08956.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data import Float32Array
from ..settings import CheckedSettings, setting
from .blocks import conv_bn
from .network import DepthNetwork, NetworkOutput, required_image
from .prefill import on_host, prefill, remove_outliers
from .sampling import add_samples, subtract_mean

# Half of the channels at full size.
BASE_CHANNELS = {"mini": 2, "tiny": 4, "small": 8, "base": 16}
# Chance of the last residual block to survive in the configurations the results come from.
SURVIVAL = {"mini": 1.0, "tiny": 0.5, "small": 0.5, "base": 0.5}

IMAGE_MEAN = (90.995, 96.2278, 94.3213)
IMAGE_STD = (79.2382, 80.5267, 82.1483)

LEVELS = 5
UPDATES = 4


@dataclass(frozen=True)
class LRRUSettings(CheckedSettings):
    """Choose the form of LRRU; the defaults load the published weights of Base."""

    size: str = setting(
        "base", choices=tuple(BASE_CHANNELS), help="Published size; mini is the smallest."
    )
    modality: str = setting(
        "both", choices=("both", "depth"), help="depth works without an image."
    )
    rows: int = setting(
        256,
        unit="px",
        range=(0, 65536),
        help="Rows at the bottom that are completed, a multiple of 16; the first of them is "
        "repeated above. 256 as published; 0 completes the whole map.",
    )
    survival: float = setting(
        0.0,
        range=(0.0, 1.0),
        help="Chance of the last residual block to survive, which also scales it at inference; "
        "0 takes the published one of the size.",
    )


class LRRU(DepthNetwork):
    """Predict weights and offsets for each update from the map it is about to change.

    Tensor names are those of the published weights.
    """

    multiple = 2 ** (LEVELS - 1)

    def __init__(self, settings: LRRUSettings = LRRUSettings()) -> None:
        """Build the size and the branches that the settings ask for."""
        super().__init__()
        self.settings = settings
        c = 2 * BASE_CHANNELS[settings.size]
        last = settings.survival or SURVIVAL[settings.size]
        blocks = 2 * LEVELS
        chances = [1 - n * (1 - last) / (blocks - 1) for n in range(blocks)]

        # Widths at full size, 1/2, 1/4, 1/8, 1/16.
        widths = (2 * c, 4 * c, 8 * c, 8 * c, 8 * c)
        self.branches = ("lidar",) if settings.modality == "depth" else ("img", "lidar")
        if "img" in self.branches:
            self.conv_img = ConvBlock(3, c, kernel=5)
        self.conv_lidar = ConvBlock(1, c, kernel=5, normalise=False)
        below = c
        for level, width in enumerate(widths, 1):
            for branch in self.branches:
                block1 = ResidualBlock(below, width, min(level, 2), chances[2 * level - 2])
                block2 = ResidualBlock(width, width, 1, chances[2 * level - 1])
                self.add_module(f"layer{level}_{branch}", nn.Sequential(block1, block2))
            if "img" in self.branches and level < LEVELS:
                self.add_module(f"guide{level}", Guide(width))
            below = width

        self.layer4d = UpBlock(widths[4], widths[3])
        self.layer3d = UpBlock(widths[3], widths[2])
        self.layer2d = UpBlock(widths[2], widths[1])
        self.layer1d = UpBlock(widths[1], widths[0])
        self.upproj0 = _enlarge(widths[3], 4 * c, 2 * c, c)
        self.upproj1 = _enlarge(widths[2], 4 * c, c)
        self.upproj2 = _enlarge(widths[1], c)
        self.conv = ConvBlock(2 * c, c)
        for update in range(UPDATES):
            self.add_module(f"weight_offset{update}", GuidanceHead(c))
        self.Post_process = PostProcess()

    @property
    def inputs(self) -> tuple[str, ...]:
        """See `DepthNetwork`."""
        image = ("image",) if "img" in self.branches else ()
        return (*image, "sparse", "prefilled")

    def prefill(self, sparse: Float32Array) -> Float32Array:
        """Fill the rows (H, W) that are completed; what lies above is left empty."""
        hidden = self._hidden_rows(sparse.shape[0])
        return np.pad(prefill(sparse[hidden:]), ((hidden, 0), (0, 0)))

    def _hidden_rows(self, height: int) -> int:
        return max(0, height - self.settings.rows) if self.settings.rows else 0

    def complete(
        self,
        image: Tensor | None,
        sparse: Tensor,
        rays: Tensor | None,
        prefilled: Tensor | None,
    ) -> NetworkOutput:
        """Fill, and update four times; see `DepthNetwork`."""
        start = on_host(self.prefill, sparse) if prefilled is None else prefilled
        hidden = self._hidden_rows(sparse.shape[2])
        start, sparse = start[:, :, hidden:], sparse[:, :, hidden:]
        normalised = None
        if "img" in self.branches:
            normalised = normalise_image(required_image(image)[:, :, hidden:])
        cleared = remove_outliers(sparse)
        depth = start
        updates: list[Tensor] = []
        for update, context in enumerate(self.contexts(normalised, sparse)):
            depth = self.update(update, depth, cleared, context)
            updates.append(F.pad(depth, (0, 0, hidden, 0), mode="replicate"))
        return NetworkOutput(updates[-1], None, tuple(updates[:-1]))

    def contexts(self, image: Tensor | None, sparse: Tensor) -> list[Tensor]:
        """Extract what guides each update, (B, C, H, W) each, from coarse to fine features.

        Args:
            image: (B, 3, H, W) normalised, or None for the modality depth.
            sparse: (B, 1, H, W) metres as measured.
        """
        first = self.conv_lidar(sparse)  # (B, C, H, W)
        lidar = first
        color = None if image is None else self.conv_img(image)
        guided = []
        for level in range(1, LEVELS + 1):
            lidar = self.get_submodule(f"layer{level}_lidar")(lidar)
            if color is not None:
                color = self.get_submodule(f"layer{level}_img")(color)
                if level < LEVELS:
                    # The image guides the LiDAR; the image branch never sees the depth.
                    lidar = self.get_submodule(f"guide{level}")(lidar, color)
            guided.append(lidar)
        x = lidar if color is None else color + lidar  # (B, 8C, H/16, W/16)
        x4 = self.layer4d(x) + guided[3]
        x3 = self.layer3d(x4) + guided[2]
        x2 = self.layer2d(x3) + guided[1]
        x1 = self.layer1d(x2) + guided[0]  # (B, 2C, H, W)
        return [self.upproj0(x4), self.upproj1(x3), self.upproj2(x2), self.conv(x1) + first]

    def update(self, update: int, depth: Tensor, cleared: Tensor, context: Tensor) -> Tensor:
        """Put measurements back in and change every pixel by its neighbourhood.

        Args:
            update: 0 to 3.
            depth: (B, 1, H, W) metres, from the update before.
            cleared: (B, 1, H, W) metres, measurements without outliers; others are not positive.
            context: (B, C, H, W).

        Returns:
            (B, 1, H, W) metres, not clamped: values may be negative.
        """
        depth = torch.where(cleared > 0, cleared, depth).detach()
        guidance = self.get_submodule(f"weight_offset{update}")(depth, context)
        post: PostProcess = self.Post_process
        gain = post.w.view(1, -1, 1, 1)
        swapped = [channel ^ 1 for channel in range(guidance.offset.shape[1])]
        return add_samples(
            depth + post.b,
            depth,
            guidance.weight,
            guidance.offset[:, swapped],  # x before y
            _taps(depth),
            lambda weight: gain * subtract_mean(weight),
        )


def normalise_image(image: Tensor) -> Tensor:
    """Bring colors of 0 to 255 to the mean and deviation of the training images."""
    mean = torch.tensor(IMAGE_MEAN, device=image.device).view(1, 3, 1, 1)
    std = torch.tensor(IMAGE_STD, device=image.device).view(1, 3, 1, 1)
    return (image - mean) / std


class Guidance(NamedTuple):
    """Say where an update looks and how much it takes from there.

    Attributes:
        weight: (B, 9, H, W) in (0, 1).
        offset: (B, 18, H, W) pixels, y before x for each tap; the centre never moves.
    """

    weight: Tensor
    offset: Tensor


class GuidanceHead(nn.Module):
    """Predict the guidance of one update."""

    def __init__(self, channels: int) -> None:
        """Name the parts as the published weights do."""
        super().__init__()
        self.convd1 = ConvBlock(1, channels, normalise=False)
        self.convd2 = ConvBlock(channels, channels, normalise=False)
        self.convf1 = ConvBlock(channels, channels, normalise=False)
        self.convf2 = ConvBlock(channels, channels, normalise=False)
        self.conv = ConvBlock(2 * channels, 2 * channels, normalise=False)
        self.ref = ResidualBlock(2 * channels, 2 * channels, rectify=False)
        self.conv_weight = nn.Conv2d(2 * channels, 9, 1)
        self.conv_offset = nn.Conv2d(2 * channels, 16, 1)

    def forward(self, depth: Tensor, context: Tensor) -> Guidance:
        """Look at a map (B, 1, H, W) and its context (B, C, H, W)."""
        looked_at = self.convd2(self.convd1(depth)), self.convf2(self.convf1(context))
        x = self.ref(self.conv(torch.cat(looked_at, 1)))
        offset = self.conv_offset(x)
        centre = torch.zeros_like(offset[:, :2])
        offset = torch.cat((offset[:, :8], centre, offset[:, 8:]), 1)
        return Guidance(torch.sigmoid(self.conv_weight(x)), offset)


class PostProcess(nn.Module):
    """Hold the 3x3 gains and the bias that the four updates share."""

    def __init__(self) -> None:
        """Start with gains of 1 and no bias."""
        super().__init__()
        self.w = nn.Parameter(torch.ones(1, 1, 3, 3))
        self.b = nn.Parameter(torch.zeros(1))


class ResidualBlock(nn.Module):
    """Add a branch to its input, if it survives: a deep network trained at random depth."""

    def __init__(
        self,
        channels_in: int,
        channels: int,
        stride: int = 1,
        survival: float = 1.0,
        *,
        rectify: bool = True,
    ) -> None:
        """Name the parts as the published weights do."""
        super().__init__()
        self.survival = survival
        self.rectify = rectify
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride != 1 or channels_in != channels:
            self.downsample = conv_bn(channels_in, channels, kernel=1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, H, W) to (B, channels, H / stride, W / stride)."""
        y = x if self.downsample is None else self.downsample(x)
        scale = self.survival
        if self.training:
            scale = float(torch.rand(()) < self.survival)
        if scale > 0:
            branch = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
            y = y + scale * branch
        return F.relu(y) if self.rectify else y


class ConvBlock(nn.Module):
    """Convolve, normalise or add a bias, rectify; named as in the published weights."""

    def __init__(
        self, channels_in: int, channels: int, kernel: int = 3, *, normalise: bool = True
    ) -> None:
        """Choose a batch normalisation or, without one, a bias."""
        super().__init__()
        convolution = nn.Conv2d(
            channels_in, channels, kernel, padding=kernel // 2, bias=not normalise
        )
        self.conv = nn.Sequential(convolution)
        if normalise:
            self.conv.add_module("bn", nn.BatchNorm2d(channels))
        self.conv.add_module("relu", nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, H, W) to (B, channels, H, W)."""
        y: Tensor = self.conv(x)
        return y


class Guide(nn.Module):
    """Let the image say what to make of the LiDAR's features."""

    def __init__(self, channels: int) -> None:
        """Name the part as the published weights do."""
        super().__init__()
        self.conv = ConvBlock(2 * channels, channels)

    def forward(self, lidar: Tensor, color: Tensor) -> Tensor:
        """Merge two maps (B, C, H, W) into one."""
        merged: Tensor = self.conv(torch.cat((lidar, color), 1))
        return merged


class UpBlock(nn.Module):
    """Double the size by a transposed convolution."""

    def __init__(self, channels_in: int, channels: int) -> None:
        """Name the parts as the published weights do."""
        super().__init__()
        self.conv = nn.ConvTranspose2d(
            channels_in, channels, 3, stride=2, padding=1, output_padding=1, bias=False
        )
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, H, W) to (B, channels, 2H, 2W)."""
        return F.relu(self.bn(self.conv(x)))


def _enlarge(*channels: int) -> nn.Sequential:
    return nn.Sequential(*(UpBlock(wide, narrow) for wide, narrow in itertools.pairwise(channels)))


def _taps(like: Tensor) -> Tensor:
    """Give x and y of the nine taps in row-major order, (9, 2) pixels."""
    side = torch.arange(-1, 2, device=like.device, dtype=like.dtype)
    return torch.cartesian_prod(side, side).flip(1)
