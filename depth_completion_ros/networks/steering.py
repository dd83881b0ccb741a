"""KernelNet: steering kernels from the image, kernel regression, and a refined residual.

The networks on both sides of the regression (`kernel_regression.py`) are modules of their own, to
be exported each; trained they are together. Tensor names below `kernel_net.` and `refiner.` are
those of the published weights.

References:
    Liu et al., Learning Steering Kernels for Guided Depth Completion, IEEE TIP 30, 2021.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..settings import CheckedSettings, setting
from .kernel_regression import regress
from .network import DepthNetwork, NetworkOutput, required_image
from .prefill import fill_nearest, on_host

BINS = 401
MAX_SIGMA, MAX_GAMMA = 6.0, 6.0  # of a kernel
_MAX_INPUT = 80.0  # metres
_FINE_BINS = 4  # bins that the fine residual spans
_IMAGE_MEAN, _IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
# Pixels whose bins are held at once at inference: 100 MB. All of a KITTI image have 700 MB.
_STRIP_PIXELS = 65536


class DepthRange(NamedTuple):
    """Hold what ties the refinement to the depths of a data set, in metres.

    Attributes:
        mean, std: of the depth, to normalise it.
        max_residual: the bins are evenly spaced from its negative to it.
        lowest, highest: the result is limited to them.
    """

    mean: float
    std: float
    max_residual: float
    lowest: float
    highest: float


RANGES = {
    "nyuv2": DepthRange(3.01047486221, 1.07943839977, 4.0, 0.7, 10.0),  # published
    # Ours: bins of 0.1 m, and far enough to cross from a car to what is behind it.
    "kitti": DepthRange(16.0, 12.0, 20.0, 0.7, 100.0),
}


@dataclass(frozen=True)
class SteeringSettings(CheckedSettings):
    """Choose the form of KernelNet; the defaults load the published weights, of NYUv2.

    For KITTI's range nothing is published: `depth_range="kitti"` is a residual head of our own,
    with the same tensors but bins of 0.1 m up to 20 m. It has to be trained; weights for one
    range mean nothing in the other.
    """

    depth_range: str = setting(
        "nyuv2",
        choices=("nyuv2", "kitti"),
        help="Depths that residuals are made for: up to 10 m as published, or up to 100 m.",
    )
    window_rows: int = setting(
        26, range=(1, 256), unit="px", help="How far a measurement reaches up and down."
    )
    window_columns: int = setting(
        34, range=(1, 256), unit="px", help="How far a measurement reaches left and right."
    )
    smoothing: float = setting(
        5.0, range=(0.5, 100.0), unit="px", help="Width of a round kernel of scale 1."
    )
    mixed_term: str = setting(
        "published",
        choices=("published", "steering"),
        help="Mixed term of a kernel: 1/sigma - 1, or 1/sigma - sigma as in the formula.",
    )
    undetermined: str = setting(
        "pseudo_inverse",
        choices=("pseudo_inverse", "flattest"),
        help="Where too few measurements are in reach: as published, drawn to 0 m; or the "
        "flattest surface, the nearest depth if there is none. Choose it for sparse points.",
    )
    width: float = setting(1.0, range=(0.03125, 2.0), help="Factor on the channels of all layers.")


class KernelNet(nn.Module):
    """Predict the kernel of each pixel from the image; `kernelnet` in the published weights."""

    def __init__(self, width: float = 1.0) -> None:
        """Name the parts as the published weights do."""
        super().__init__()
        narrow, wide = (max(1, round(width * channels)) for channels in (64, 512))
        self.inc = Wrapped(3, narrow)
        self.down1 = Down(narrow, wide)
        self.up3 = Up(narrow + wide, narrow)
        self.outc = Head(narrow, 3)

    def forward(self, image: Tensor) -> Tensor:
        """Predict from (B, 3, H, W), 0 to 255.

        Returns:
            (B, 3, H, W): sigma 0..6, theta -pi..pi, gamma 0..6; see `regress`.
        """
        fine = self.inc(image / 255)
        raw = self.outc(self.up3(self.down1(fine), fine))
        sigma, theta, gamma = torch.sigmoid(raw.float()).unbind(1)
        return torch.stack(
            (MAX_SIGMA * sigma, 2 * math.pi * theta - math.pi, MAX_GAMMA * gamma), 1
        )


class Residual(NamedTuple):
    """Hold what is to be added to an interpolated depth, all (B, ., H, W).

    Attributes:
        mean: (1) metres, expectation over the bins.
        fine: (1) metres, within two bins to each side.
        variance: (1) square metres, over the bins.
        logits: (401) of the bins, for a loss over them; None without a graph.
    """

    mean: Tensor
    fine: Tensor
    variance: Tensor
    logits: Tensor | None


class RefinementUNet(nn.Module):
    """Classify the error of an interpolated depth; `kernelnet_refine_unet` as published."""

    bins: Tensor
    image_mean: Tensor
    image_std: Tensor

    def __init__(self, depth_range: DepthRange = RANGES["nyuv2"], width: float = 1.0) -> None:
        """Name the parts as the published weights do."""
        super().__init__()
        self.depth_range = depth_range
        c1, c2, c4, c8 = (max(1, round(width * channels)) for channels in (64, 128, 256, 512))
        self.inc1 = Wrapped(4, c1)
        self.down1, self.down2 = Down(c1, c2), Down(c2, c4)
        self.down3, self.down4 = Down(c4, c8), Down(c8, c8)
        self.up1, self.up2 = Up(2 * c8, c4), Up(2 * c4, c2)
        self.up3, self.up4 = Up(2 * c2, c1), Up(2 * c1, c1)
        self.outc, self.outsign = Head(c1, BINS), Head(c1, 1)
        limit = depth_range.max_residual
        for name, values in (
            ("bins", torch.linspace(-limit, limit, BINS)),
            ("image_mean", torch.tensor(_IMAGE_MEAN)),
            ("image_std", torch.tensor(_IMAGE_STD)),
        ):
            self.register_buffer(name, values[:, None, None], persistent=False)

    def forward(self, image: Tensor, interpolated: Tensor) -> Residual:
        """Predict what an interpolated depth lacks.

        Args:
            image: (B, 3, H, W) RGB from 0 to 255.
            interpolated: (B, 1, H, W) metres.
        """
        features = self._features(image, interpolated)
        fine_range = _FINE_BINS * 2 * self.depth_range.max_residual / (BINS - 1)
        fine = fine_range * (torch.sigmoid(self.outsign(features).float()) - 0.5)
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            logits = self.outc(features).float()
            mean, variance = self._moments(logits)
            return Residual(mean, fine, variance, logits)
        rows = max(1, _STRIP_PIXELS // int(features.shape[3]))
        strips = [
            self._moments(self.outc(strip).float()) for strip in torch.split(features, rows, 2)
        ]
        mean, variance = (torch.cat(parts, 2) for parts in zip(*strips, strict=True))
        return Residual(mean, fine, variance, None)

    def _features(self, image: Tensor, interpolated: Tensor) -> Tensor:
        depth = (interpolated.clamp(0, _MAX_INPUT) - self.depth_range.mean) / self.depth_range.std
        color = (image / 255 - self.image_mean) / self.image_std
        x1 = self.inc1(torch.cat((color, depth), 1))  # (B, 64, H, W)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x4 = self.down3(x3)
        x = self.up1(self.down4(x4), x4)  # (B, 256, H / 8, W / 8), from H / 16
        x = self.up2(x, x3)
        x = self.up3(x, x2)
        features: Tensor = self.up4(x, x1)
        return features

    def _moments(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        probability = torch.softmax(logits, 1)
        mean = (probability * self.bins).sum(1, keepdim=True)
        variance = (probability * (self.bins - mean).square()).sum(1, keepdim=True)
        return mean, variance


class Prediction(NamedTuple):
    """Hold all that training needs; the parts are those of `complete`, in metres."""

    depth: Tensor
    interpolated: Tensor
    residual: Residual


class Steering(DepthNetwork):
    """Interpolate with the kernels that the image asks for, then add the residual.

    Sigma is the standard deviation over the residual's bins.
    """

    def __init__(self, settings: SteeringSettings = SteeringSettings()) -> None:
        """Put both networks around the regression."""
        super().__init__()
        self.settings = settings
        self.kernel_net = KernelNet(settings.width)
        self.refiner = RefinementUNet(RANGES[settings.depth_range], settings.width)

    def complete(
        self,
        image: Tensor | None,
        sparse: Tensor,
        rays: Tensor | None,
        prefilled: Tensor | None,
    ) -> NetworkOutput:
        """Interpolate and refine; see `DepthNetwork`. The stage is the interpolation."""
        predicted = self.predict(required_image(image), sparse)
        sigma = predicted.residual.variance.clamp(min=1e-8).sqrt()  # sqrt'(0) is infinite
        return NetworkOutput(predicted.depth, sigma, (predicted.interpolated,))

    def predict(self, image: Tensor, sparse: Tensor) -> Prediction:
        """Do what `complete` does and give the parts.

        Args:
            image: (B, 3, H, W) RGB from 0 to 255.
            sparse: (B, 1, H, W) metres, 0 = none; kept where it is within the depth range.
        """
        interpolated = self.interpolate(sparse, self.kernel_net(image))
        residual = self.refiner(image, interpolated)
        return Prediction(self.refine(sparse, interpolated, residual), interpolated, residual)

    def interpolate(self, sparse: Tensor, kernels: Tensor) -> Tensor:
        """Run the regression, between the two networks: (B, 1, H, W) metres."""
        settings = self.settings
        interpolated = regress(
            sparse,
            kernels,
            window=(settings.window_rows, settings.window_columns),
            smoothing=settings.smoothing,
            mixed_term=settings.mixed_term,
            undetermined=settings.undetermined,
        )
        if settings.undetermined == "flattest":
            unknown = interpolated == 0
            if unknown.any():
                nearest = on_host(fill_nearest, sparse)
                interpolated = torch.where(unknown, nearest.to(interpolated), interpolated)
        return interpolated

    def refine(self, sparse: Tensor, interpolated: Tensor, residual: Residual) -> Tensor:
        """Add the residual, put the measurements back and limit the depth: (B, 1, H, W) metres."""
        depth = interpolated + residual.mean + residual.fine
        limits = self.refiner.depth_range
        return torch.where(sparse > 0, sparse, depth).clamp(limits.lowest, limits.highest)

    def loss(self, predicted: Prediction, truth: Tensor, *, l1_weight: float = 1.0) -> Tensor:
        """Compare with the truth as published: cross entropy over the bins, and L1.

        Args:
            predicted: made with gradients enabled.
            truth: (B, 1, H, W) metres, 0 = unknown; something must be known.
            l1_weight: of the error of the residual, the fine one included, which nothing else
                would train; 1 for NYUv2, 0.1 for KITTI.

        Returns:
            A scalar that trains both networks.
        """
        logits = predicted.residual.logits
        assert logits is not None
        known = truth[:, 0] > 0
        missing = (truth - predicted.interpolated)[:, 0][known]
        limit = self.refiner.depth_range.max_residual
        # Which bin is right has no derivative: the interpolation learns by L1 and as an input.
        target = ((missing.detach() + limit) * ((BINS - 1) / (2 * limit))).round()
        cross_entropy = F.cross_entropy(
            logits.permute(0, 2, 3, 1)[known], target.clamp(0, BINS - 1).long()
        )
        expected = (predicted.residual.mean + predicted.residual.fine)[:, 0][known]
        return cross_entropy + l1_weight * (expected - missing).abs().mean()


class DoubleConv(nn.Module):
    """Convolve, normalise, rectify, twice."""

    def __init__(self, channels_in: int, channels: int) -> None:
        """Name the parts as the published weights do; unlike elsewhere there is a bias."""
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, channels_in, H, W) to (B, channels, H, W)."""
        convolved: Tensor = self.conv(x)
        return convolved


class Wrapped(nn.Module):
    """Hold a double convolution one name deeper."""

    def __init__(self, channels_in: int, channels: int) -> None:
        """Name the part as the published weights do."""
        super().__init__()
        self.conv = DoubleConv(channels_in, channels)

    def forward(self, x: Tensor) -> Tensor:
        """See `DoubleConv`."""
        convolved: Tensor = self.conv(x)
        return convolved


class Halve(nn.Module):
    """Keep the largest of each 2x2 cell; a side of one pixel stays."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, C, H, W) to half of its size, rounded down."""
        return F.max_pool2d(x, (min(2, int(x.shape[2])), min(2, int(x.shape[3]))))


class Down(nn.Module):
    """Halve the size, then convolve."""

    def __init__(self, channels_in: int, channels: int) -> None:
        """Name the parts as the published weights do."""
        super().__init__()
        self.mpconv = nn.Sequential(Halve(), DoubleConv(channels_in, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, channels_in, H, W) to (B, channels, H // 2, W // 2)."""
        convolved: Tensor = self.mpconv(x)
        return convolved


class Up(nn.Module):
    """Enlarge, add a border where the finer features have one more pixel, convolve both."""

    def __init__(self, channels_in: int, channels: int) -> None:
        """Name the part as the published weights do."""
        super().__init__()
        self.conv = DoubleConv(channels_in, channels)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Bring (B, C1, h, w) to the size of (B, C2, H, W) and merge: (B, channels, H, W)."""
        enlarged = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=True)
        # A graph that is traced takes sizes as constants.
        rows, columns = (int(fine.shape[side]) - int(enlarged.shape[side]) for side in (2, 3))
        if rows != 0 or columns != 0:  # negative only for a side of one pixel
            enlarged = F.pad(
                enlarged,
                (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2),
            )
        merged: Tensor = self.conv(torch.cat((fine, enlarged), 1))
        return merged


class Head(nn.Module):
    """Read results from features, pixel by pixel."""

    def __init__(self, channels_in: int, channels: int) -> None:
        """Name the part as the published weights do."""
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, channels_in, H, W) to (B, channels, H, W)."""
        read: Tensor = self.conv(x)
        return read
