"""redc_lite: correct a non-learned fill in log depth and refine it in one deformable pass.

A compact U-Net works at half size and below. It is ours, not published: the pass is ReDC's
(`sampling.py`), and an untrained network returns the fill it was given. Not here: the fill
(`completers/classical.py`) and the pass without torch (`backends/refinement.py`).

References:
    Sun et al., Revisiting Deformable Convolution for Depth Completion, IROS 2023,
    arXiv 2308.01905.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data import Float32Array
from ..errors import InputError
from ..settings import CheckedSettings, setting
from .blocks import conv_bn, conv_bn_relu
from .guidance import CENTRE, LEAST_SHARE, centred_taps
from .network import DepthNetwork, NetworkOutput, required_image
from .prefill import on_host, prefill
from .triton_refinement import add_samples

MIN_DEPTH = 0.1  # metres, keeps logarithms finite
# Relative sigma of an untrained network: exp(-2.5) is 8 %, about what a fill has.
START_LOG_SIGMA = -2.5
LOG_SIGMA_LIMITS = (-7.0, 2.0)

IMAGE_MEAN, IMAGE_STD = 115.0, 64.0  # of levels from 0 to 255, the same for all colors


@dataclass(frozen=True)
class ReDCLiteSettings(CheckedSettings):
    """Choose the form of redc_lite; the defaults are the shipped one."""

    widths: tuple[float, ...] = setting(
        (16.0, 48.0, 64.0, 96.0),
        length=(4,),
        range=(4, 512),
        help="Channels at 1/2, 1/4, 1/8 and 1/16 of the size.",
    )
    blocks: tuple[float, ...] = setting(
        (1.0, 1.0, 2.0), length=(3,), range=(0, 16), help="Residual blocks at 1/4, 1/8 and 1/16."
    )
    stem: int = setting(1, range=(1, 4), help="Convolutions at 1/2 before the first skip.")
    head_kernel: int = setting(1, range=(1, 3), help="Kernel of the head: 1 or 3.")
    modality: str = setting(
        "both", choices=("both", "depth"), help="depth works without an image."
    )
    max_correction: float = setting(
        2.0, range=(0.1, 5.0), help="Largest correction of the logarithm of the depth."
    )
    max_offset: float = setting(
        7.0, unit="px", range=(1.0, 31.0), help="Largest offset of a tap of the refinement."
    )
    kernel: int = setting(3, range=(1, 5), help="Taps along one side of the refinement, odd.")

    def __post_init__(self) -> None:
        """Refuse what is no count."""
        super().__post_init__()
        for name in ("widths", "blocks"):
            if any(number != int(number) for number in getattr(self, name)):
                msg = f"{name}: found {getattr(self, name)}, expected whole numbers"
                raise InputError(msg)
        for name in ("kernel", "head_kernel"):
            if getattr(self, name) % 2 == 0:
                msg = f"{name}: found {getattr(self, name)}, expected an odd number"
                raise InputError(msg)


class Guidance(NamedTuple):
    """Hold what the U-Net predicts at half size, with h = H / 2 and w = W / 2.

    Attributes:
        correction: (B, 1, h, w) added to the logarithm of the fill.
        log_sigma: (B, 1, h, w) logarithm of sigma over depth.
        weight: (B, k², h, w), sums to 0 over the taps.
        offset: (B, 2k², h, w) pixels of the full size, x before y for each tap.
    """

    correction: Tensor
    log_sigma: Tensor
    weight: Tensor
    offset: Tensor


class ReDCLite(DepthNetwork):
    """Predict a correction, its uncertainty and where to sample for the refinement."""

    multiple = 16

    def __init__(self, settings: ReDCLiteSettings = ReDCLiteSettings()) -> None:
        """Start such that the result is the fill."""
        super().__init__()
        self.settings = settings
        widths = [int(width) for width in settings.widths]
        channels_in = 9 if settings.modality == "both" else 6
        more = [conv_bn_relu(widths[0], widths[0]) for _ in range(settings.stem - 1)]
        self.stem = nn.Sequential(conv_bn_relu(channels_in, widths[0], stride=2), *more)
        self.down, self.lateral, self.up = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for (fine, coarse), blocks in zip(
            itertools.pairwise(widths), settings.blocks, strict=True
        ):
            same = [ResidualBlock(coarse) for _ in range(int(blocks))]
            self.down.append(nn.Sequential(conv_bn_relu(fine, coarse, stride=2), *same))
            self.lateral.append(nn.Conv2d(coarse, fine, 1))
            self.up.append(conv_bn_relu(fine, fine))
        self.head = nn.Conv2d(
            widths[0],
            2 + 3 * settings.kernel**2,
            settings.head_kernel,
            padding=settings.head_kernel // 2,
        )
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    @property
    def inputs(self) -> tuple[str, ...]:
        """See `DepthNetwork`."""
        image = ("image",) if self.settings.modality == "both" else ()
        return (*image, "sparse", "rays", "prefilled")

    def prefill(self, sparse: Float32Array) -> Float32Array:
        """Fill (H, W) as LRRU does, for whoever has no better fill at hand."""
        return prefill(sparse)

    def complete(
        self,
        image: Tensor | None,
        sparse: Tensor,
        rays: Tensor | None,
        prefilled: Tensor | None,
    ) -> NetworkOutput:
        """Correct and refine; see `DepthNetwork`. The stages are the fill and the correction."""
        if prefilled is None:
            prefilled = on_host(self.prefill, sparse)
        guidance = self.guide(image, sparse, rays, prefilled)
        start = torch.where(prefilled > 0, prefilled, math.exp(CENTRE))
        coarse = start * torch.exp(enlarge(guidance.correction))
        depth = refine_at_half_size(
            coarse, guidance.weight, guidance.offset, max_offset=self.settings.max_offset
        )
        sigma = depth * torch.exp(enlarge(guidance.log_sigma))
        return NetworkOutput(depth, sigma, (start, coarse))

    def guide(
        self,
        image: Tensor | None,
        sparse: Tensor,
        rays: Tensor | None,
        prefilled: Tensor,
    ) -> Guidance:
        """Run the U-Net, the part that is exported.

        Args:
            image, sparse, rays: as for `complete`.
            prefilled: (B, 1, H, W) metres, 0 where the fill knows nothing.
        """
        x = self.stem(self._features(image, sparse, rays, prefilled))  # (B, C0, H/2, W/2)
        skips = []
        for down in self.down:
            skips.append(x)
            x = down(x)  # (B, C_l, H / 2^(l+1), W / 2^(l+1))
        for lateral, up, skip in zip(
            reversed(self.lateral), reversed(self.up), reversed(skips), strict=True
        ):
            x = up(enlarge(lateral(x)) + skip)
        taps = self.settings.kernel**2
        correction, log_sigma, weight, offset = (
            self.head(x).float().split((1, 1, taps, 2 * taps), 1)
        )
        weight = torch.sigmoid(weight)
        limits = self.settings
        return Guidance(
            correction.clamp(-limits.max_correction, limits.max_correction),
            (START_LOG_SIGMA + log_sigma).clamp(*LOG_SIGMA_LIMITS),
            weight - weight.mean(1, keepdim=True),
            offset.clamp(-limits.max_offset, limits.max_offset),
        )

    def _features(
        self, image: Tensor | None, sparse: Tensor, rays: Tensor | None, prefilled: Tensor
    ) -> Tensor:
        """Bring all inputs to the range of about -2 to 2; (B, 9 or 6, H, W)."""
        if rays is None:
            msg = "rays: found none, expected (B, 2, H, W); redc_lite needs the real camera's"
            raise InputError(msg)
        known, measured = prefilled > 0, sparse > 0
        log_fill = torch.where(known, torch.log(prefilled.clamp(min=MIN_DEPTH)), CENTRE)
        log_sparse = torch.log(sparse.clamp(min=MIN_DEPTH))
        difference = torch.where(measured, log_sparse - log_fill, 0.0).clamp(-2, 2) * 2
        features = [
            log_fill - CENTRE,
            difference,
            measured.to(sparse.dtype),
            known.to(sparse.dtype),
            rays,
        ]
        if self.settings.modality == "both":
            features.append((required_image(image) - IMAGE_MEAN) / IMAGE_STD)
        return torch.cat(features, 1)


class ResidualBlock(nn.Module):
    """Two convolutions around a shortcut."""

    def __init__(self, channels: int) -> None:
        """Keep channels and size."""
        super().__init__()
        self.body = nn.Sequential(conv_bn_relu(channels, channels), *conv_bn(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, H, W) to the same shape."""
        return F.relu(x + self.body(x))


def enlarge(x: Tensor) -> Tensor:
    """Double the size of (B, C, H, W) linearly.

    By a factor, not to a size: ONNX Runtime is 1.3 times slower where the size is dynamic.
    """
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def refine_at_half_size(
    depth: Tensor, weight: Tensor, offset: Tensor, *, max_offset: float
) -> Tensor:
    """Refine a map by taps that 2x2 pixels share.

    Args:
        depth: (B, 1, H, W) metres, positive.
        weight: (B, k², H / 2, W / 2), sums to 0 over the taps.
        offset: (B, 2k², H / 2, W / 2) pixels of the full size, x before y, from the tap's place
            in a k x k grid around the pixel; within `max_offset`.
        max_offset: pixels.

    Returns:
        (B, 1, H, W) metres, at least `LEAST_SHARE` of `depth`.
    """
    taps = centred_taps(math.isqrt(weight.shape[1]))
    reach = max_offset + max(abs(place) for tap in taps for place in tap)
    refined = add_samples(depth, depth, weight, offset, taps, reach=reach, repeat_border=True)
    return torch.maximum(refined, LEAST_SHARE * depth)
