"""MSG-CHN: three small hourglasses in a row, each at twice the size of the one before.

Not here: the loss over its three results, which are in `NetworkOutput.stages`.

References:
    Li et al., A Multi-Scale Guided Cascade Hourglass Network for Depth Completion, WACV 2020;
    the form with 32 channels and skip connections of the authors' repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..settings import CheckedSettings, setting
from .network import DepthNetwork, NetworkOutput, required_image

COLOR_LEVELS, DEPTH_LEVELS = 4, 2


@dataclass(frozen=True)
class MSGCHNSettings(CheckedSettings):
    """Choose the form of MSG-CHN; the default loads the published weights."""

    channels: int = setting(32, range=(1, 256), help="Channels of all layers.")


class MSGCHN(DepthNetwork):
    """Add what each finer hourglass sees to the enlarged result of the coarser one.

    Tensor names are those of the published weights.
    """

    multiple = 2**COLOR_LEVELS

    def __init__(self, settings: MSGCHNSettings = MSGCHNSettings()) -> None:
        """Name the parts as the published weights do."""
        super().__init__()
        self.settings = settings
        c = settings.channels
        self.rgb_encoder = Encoder(3, c, COLOR_LEVELS)
        self.depth_encoder1 = Encoder(1, c, DEPTH_LEVELS)
        self.depth_decoder1 = Decoder(c)
        self.depth_encoder2 = Encoder(2, c, DEPTH_LEVELS)
        self.depth_decoder2 = Decoder(c)
        self.depth_encoder3 = Encoder(2, c, DEPTH_LEVELS)
        self.depth_decoder3 = Decoder(c)

    def complete(
        self,
        image: Tensor | None,
        sparse: Tensor,
        rays: Tensor | None,
        prefilled: Tensor | None,
    ) -> NetworkOutput:
        """Complete at 1/4, 1/2 and full size; see `DepthNetwork`."""
        color = self.rgb_encoder(required_image(image) / 255)  # color[l]: (B, C, H/2^l, W/2^l)
        half, quarter = average_measurements(sparse, 2), average_measurements(sparse, 4)

        encoded = self.depth_encoder1(quarter)
        decoded = self.depth_decoder1(encoded, color[2:])
        at_quarter = decoded[-1]

        encoded = self.depth_encoder2(torch.cat((half, enlarge(at_quarter)), 1), decoded)
        decoded = self.depth_decoder2(encoded, color[1:])
        at_half = decoded[-1]

        coarse = enlarge(at_half + enlarge(at_quarter))
        encoded = self.depth_encoder3(torch.cat((sparse, coarse), 1), decoded)
        decoded = self.depth_decoder3(encoded, color)
        depth = decoded[-1] + coarse
        return NetworkOutput(depth, None, (enlarge(at_quarter, 4), coarse))


class Encoder(nn.Module):
    """Halve the size level by level."""

    def __init__(self, channels_in: int, channels: int, levels: int) -> None:
        """Name the parts as the published weights do."""
        super().__init__()
        self.init = nn.Sequential(
            _conv(channels_in, channels), nn.ReLU(), _conv(channels, channels)
        )
        self.levels = [f"enc{level}" for level in range(1, levels + 1)]
        for name in self.levels:
            down, same = _conv(channels, channels, stride=2), _conv(channels, channels)
            self.add_module(name, nn.Sequential(nn.ReLU(), down, nn.ReLU(), same))

    def forward(self, x: Tensor, coarser: Sequence[Tensor] = ()) -> list[Tensor]:
        """Encode (B, channels_in, H, W).

        Args:
            x: the input.
            coarser: what the decoder of the hourglass before made, from coarse to fine at half
                of the sizes here; it is enlarged and added, before the next level sees it.

        Returns:
            (B, C, H / 2^l, W / 2^l) for l = 0, 1, ...
        """
        added = [*coarser[:-1]][::-1]  # its last entry is its result
        encoded = [self.init(x)]
        for level in range(len(self.levels) + 1):
            if level > 0:
                encoded.append(self.get_submodule(self.levels[level - 1])(encoded[-1]))
            if added:
                encoded[-1] = encoded[-1] + enlarge(added[level])
        return encoded


class Decoder(nn.Module):
    """Merge depth and color features and double the size twice."""

    def __init__(self, channels: int) -> None:
        """Name the parts as the published weights do."""
        super().__init__()
        self.dec2 = self._up(channels)
        self.dec1 = self._up(channels)
        self.prdct = nn.Sequential(
            nn.ReLU(), _conv(channels, channels), nn.ReLU(), _conv(channels, 1)
        )

    @staticmethod
    def _up(channels: int) -> nn.Sequential:
        deconvolution = nn.ConvTranspose2d(
            channels, channels, 3, stride=2, padding=1, output_padding=1
        )
        return nn.Sequential(nn.ReLU(), deconvolution, nn.ReLU(), _conv(channels, channels))

    def forward(self, depth: Sequence[Tensor], color: Sequence[Tensor]) -> list[Tensor]:
        """Decode features of three sizes, fine to coarse.

        Returns:
            (B, C, H / 4, W / 4), (B, C, H / 2, W / 2), (B, C, H, W) and the result (B, 1, H, W).
        """
        x2 = depth[2] + color[2]
        x3 = self.dec2(x2)
        x4 = self.dec1(depth[1] + color[1] + x3)
        return [x2, x3, x4, self.prdct(x4 + depth[0] + color[0])]


def average_measurements(sparse: Tensor, factor: int) -> Tensor:
    """Shrink a sparse map (B, 1, H, W), averaging what was measured in each cell."""
    total = F.avg_pool2d(sparse, factor)
    share = F.avg_pool2d((sparse > 0).to(sparse.dtype), factor)
    return total / (share + 1e-4)


def enlarge(x: Tensor, factor: int = 2) -> Tensor:
    """Enlarge (B, C, H, W) the way the published weights expect: corner to corner."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=True)


def _conv(channels_in: int, channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels, 3, stride, padding=1)
