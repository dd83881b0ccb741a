"""PENet: a backbone and CSPN++ on its coarse depth, dilated from coarse to fine.

Not here: the backbone (`enet.py`, or any other `Backbone`) and the CSPN++ of its own authors,
which normalises and steps differently.

References:
    Hu et al., PENet: Towards Precise and Efficient Image Guided Depth Completion, ICRA 2021,
    arXiv 2103.00783; Cheng et al., CSPN++, AAAI 2020, arXiv 1911.05377.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..settings import setting
from .blocks import conv_bn, nearest_measurement
from .enet import ENet, ENetSettings
from .network import Backbone, DepthNetwork, NetworkOutput

KERNELS = (3, 5, 7)
# Without dilation all 12 steps are made at full size, and these are assembled.
ASSEMBLED_STEPS = (3, 6, 9, 12)
# With dilation r the coarsest stage works at 1/r, the last one at full size.
STEPS_PER_STAGE = {2: 6, 4: 4}


@dataclass(frozen=True)
class PENetSettings(ENetSettings):
    """Choose the form of PENet; the defaults load the published weights."""

    dilation: int = setting(
        2, range=(1, 4), help="Dilation of the first stage: 1, 2 (published result) or 4."
    )

    def __post_init__(self) -> None:
        """Refuse dilations that have no published form."""
        super().__post_init__()
        if self.dilation not in (1, 2, 4):
            msg = f"dilation: found {self.dilation}, expected 1, 2 or 4"
            raise InputError(msg)


class PENet(DepthNetwork):
    """Propagate depth between neighbours with affinities learned for three kernel sizes.

    Tensor names are those of the published weights, without their constant one-hot kernels
    `encoder3`, `encoder5` and `encoder7`: shifts do the same.
    """

    # The last two are left over from training and never had an effect.
    unused_tensors = ("encoder3", "encoder5", "encoder7", "dimhalf_s2.", "att_12.")

    def __init__(
        self, settings: PENetSettings = PENetSettings(), backbone: Backbone | None = None
    ) -> None:
        """Put the heads on a backbone; without one on ENet, as published."""
        super().__init__()
        self.settings = settings
        self.backbone = backbone or ENet(settings)
        self.multiple = max(self.backbone.multiple, settings.dilation)
        levels = (1, 2, 4)[: (1, 2, 4).index(settings.dilation) + 1]
        self.dilations = levels[::-1]  # dilation of each stage, coarse to fine
        for level, channels in zip(levels, self.backbone.feature_channels, strict=False):
            suffix = _suffix(level)
            masks = len(KERNELS) if settings.dilation == 1 else 1
            self.add_module(f"kernel_conf_layer{suffix}", conv_bn(channels, len(KERNELS)))
            self.add_module(f"mask_layer{suffix}", conv_bn(channels, masks))
            if settings.dilation == 4:
                self.add_module(f"prop_mask_layer{suffix}", conv_bn(channels, 1))
            for kernel in KERNELS:
                self.add_module(f"iter_guide_layer{kernel}{suffix}", Guide(channels, kernel))
        if settings.dilation == 1:
            outputs = len(KERNELS) * len(ASSEMBLED_STEPS)
            self.iter_conf_layer = conv_bn(self.backbone.feature_channels[0], outputs)

    @property
    def inputs(self) -> tuple[str, ...]:
        """See `DepthNetwork`."""
        return self.backbone.inputs

    def complete(
        self,
        image: Tensor | None,
        sparse: Tensor,
        rays: Tensor | None,
        prefilled: Tensor | None,
    ) -> NetworkOutput:
        """Predict a coarse depth and propagate it; see `DepthNetwork`."""
        coarse = self.backbone.encode(image, sparse, rays)
        measured = {1: sparse}
        for level in (2, 4):
            measured[level] = nearest_measurement(measured[level // 2])
        depth = coarse.depth
        stages = [*coarse.stages]
        for level in self.dilations:
            stages.append(depth)
            features = coarse.features[(1, 2, 4).index(level)]
            if self.settings.dilation == 1:
                depth = self._assemble(depth, features, sparse)
            else:
                depth = self._propagate(depth, features, measured[level], level)
        return NetworkOutput(depth, None, tuple(stages))

    def affinities(self, features: Tensor, level: int) -> list[Tensor]:
        """Predict one affinity (B, k², H / level, W / level) for each kernel size."""
        names = (f"iter_guide_layer{kernel}{_suffix(level)}" for kernel in KERNELS)
        return [self.get_submodule(name)(features) for name in names]

    def confidences(self, features: Tensor, measured: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """Predict how much to trust kernels (B, 3, h, w) and measurements (B, 1 or 3, h, w)."""
        suffix = _suffix(level)
        kernels = self.get_submodule(f"kernel_conf_layer{suffix}")(features)
        mask = torch.sigmoid(self.get_submodule(f"mask_layer{suffix}")(features))
        return torch.softmax(kernels, 1), mask * (measured > 0)

    def _propagate(
        self, depth: Tensor, features: Tensor, measured: Tensor, dilation: int
    ) -> Tensor:
        confidence, mask = self.confidences(features, measured, dilation)
        gain = None
        if self.settings.dilation == 4:
            head = self.get_submodule(f"prop_mask_layer{_suffix(dilation)}")
            gain = torch.sigmoid(head(features))
        return propagate_dilated(
            depth,
            self.affinities(features, dilation),
            confidence,
            mask,
            measured,
            dilation=dilation,
            steps=STEPS_PER_STAGE[self.settings.dilation],
            gain=gain,
        )

    def _assemble(self, depth: Tensor, features: Tensor, sparse: Tensor) -> Tensor:
        """Make all steps at full size and weigh kernels and steps."""
        batch, _, height, width = depth.shape
        confidence, mask = self.confidences(features, sparse, 1)
        shape = (batch, len(KERNELS), len(ASSEMBLED_STEPS), height, width)
        share = torch.softmax(self.iter_conf_layer(features).view(shape), 2)
        total = torch.zeros_like(depth)
        for k, affinity in enumerate(self.affinities(features, 1)):
            steps = iterate(depth, affinity, mask[:, k : k + 1], sparse, max(ASSEMBLED_STEPS))
            wanted = [h for step, h in enumerate(steps, 1) if step in ASSEMBLED_STEPS]
            mixed = (share[:, k] * torch.cat(wanted, 1)).sum(1, keepdim=True)
            total = total + confidence[:, k : k + 1] * mixed
        return total


class Guide(nn.Module):
    """Predict what each pixel sends to itself and its k² - 1 neighbours."""

    def __init__(self, channels: int, kernel: int) -> None:
        """Name the part as the published weights do."""
        super().__init__()
        self.generate = conv_bn(channels, kernel * kernel - 1)

    def forward(self, features: Tensor) -> Tensor:
        """Turn features (B, C, h, w) into affinities (B, k², h, w); see `normalise_affinity`."""
        return normalise_affinity(self.generate(features))


def normalise_affinity(raw: Tensor) -> Tensor:
    """Make what a pixel sends sum to 1, the share it keeps included.

    Args:
        raw: (B, k² - 1, H, W), neighbours in row-major order.

    Returns:
        (B, k², H, W), the pixel's own share in the middle.
    """
    # A pixel that sends nothing keeps all; the published form divides by 0 there.
    total = raw.abs().sum(1, keepdim=True).clamp_min(torch.finfo(raw.dtype).tiny)
    shares = raw / total
    own = 1 - shares.sum(1, keepdim=True)
    half = raw.shape[1] // 2
    return torch.cat((shares[:, :half], own, shares[:, half:]), 1)


def propagate_dilated(
    depth: Tensor,
    affinities: Sequence[Tensor],
    confidence: Tensor,
    mask: Tensor,
    measured: Tensor,
    *,
    dilation: int,
    steps: int,
    gain: Tensor | None = None,
) -> Tensor:
    """Propagate with each kernel between pixels that lie `dilation` apart, and mix the kernels.

    The published form enlarges affinities and masks to full size and looks `dilation` pixels
    far. All it ever connects are pixels of the same phase, so here the phases are channels:
    nothing is enlarged and nothing is dilated.

    Args:
        depth: (B, 1, H, W) metres.
        affinities: (B, k², H / dilation, W / dilation) each.
        confidence: one channel for each of them, at their size; they sum to 1.
        mask, measured, gain: as for `iterate`, at the size of the affinities.
        dilation: pixels; divides H and W.
        steps: how many.

    Returns:
        (B, 1, H, W) metres.
    """
    start = F.pixel_unshuffle(depth, dilation)  # (B, r², H / r, W / r)
    total = torch.zeros_like(start)
    for k, affinity in enumerate(affinities):
        *_, last = iterate(start, affinity, mask, measured, steps, gain)
        total = total + confidence[:, k : k + 1] * last
    return F.pixel_shuffle(total, dilation)


def iterate(
    start: Tensor,
    affinity: Tensor,
    mask: Tensor,
    measured: Tensor,
    steps: int,
    gain: Tensor | None = None,
) -> Iterator[Tensor]:
    """Propagate step by step, pulling measured pixels back to their measurement each time.

    Args:
        start: (B, P, H, W) metres.
        affinity: (B, k², H, W), what each pixel sends.
        mask: (B, 1, H, W) in [0, 1], trust in the measurements; 0 where there is none.
        measured: (B, 1, H, W) metres.
        steps: how many.
        gain: (B, 1, H, W), factor on what is propagated (published with dilation 4).

    Yields:
        (B, P, H, W) metres after each step.
    """
    h = start
    for _ in range(steps):
        h = propagate(h, start, affinity)
        if gain is not None:
            h = gain * h
        h = mask * measured + (1 - mask) * h
        yield h


def propagate(h: Tensor, start: Tensor, affinity: Tensor) -> Tensor:
    """Make one step: every pixel sends shares of its depth and adds up what it is sent.

    The published form first brings the shares to the pixels that receive them, by convolving
    with k² one-hot kernels of k² channels; reading them where they are needs no transposition.

    Args:
        h: (B, P, H, W) metres.
        start: (B, P, H, W) metres; a pixel's own share comes from here instead of `h`.
        affinity: (B, k², H, W), channel m is what a pixel sends to its neighbour m, row-major.

    Returns:
        (B, P, H, W) metres. What is sent out of the map is lost.
    """
    taps = int(affinity.shape[1])  # int, because sizes are tensors while a network is traced
    kernel = math.isqrt(taps)
    height, width = h.shape[2:]
    own = taps // 2
    total = affinity[:, own : own + 1] * start
    if torch.onnx.is_in_onnx_export():
        return total + _sum_for_export(h, affinity, kernel)
    for m, share in enumerate(affinity.unbind(1)):
        if m == own:
            continue
        sent_rows, rows = _overlap(height, m // kernel - kernel // 2)
        sent_columns, columns = _overlap(width, m % kernel - kernel // 2)
        sent = share[:, None, sent_rows, sent_columns]
        total[:, :, rows, columns].addcmul_(sent, h[:, :, sent_rows, sent_columns])
    return total


def _sum_for_export(h: Tensor, affinity: Tensor, kernel: int) -> Tensor:
    """Add up what neighbours send, in two operators instead of one for each of them."""
    batch, phases, height, width = h.shape
    taps = kernel * kernel
    sent = affinity[:, None] * h[:, :, None]  # (B, P, k², H, W)
    m = torch.tensor([m for m in range(taps) if m != taps // 2], device=h.device)
    one_hot = torch.zeros(1, taps, kernel, kernel, dtype=h.dtype, device=h.device)
    one_hot[0, m, (taps - 1 - m) // kernel, (taps - 1 - m) % kernel] = 1
    sums = F.conv2d(sent.view(batch * phases, taps, height, width), one_hot, padding=kernel // 2)
    return sums.view(batch, phases, height, width)


def _overlap(size: int, shift: int) -> tuple[slice, slice]:
    """Give the senders whose receiver, `shift` further on, is in the map, and the receivers."""
    start, stop = max(0, -shift), min(size, size - shift)
    # A map smaller than the shift has neither.
    return slice(start, max(start, stop)), slice(start + shift, max(start, stop) + shift)


def _suffix(level: int) -> str:
    return {1: "", 2: "_s2", 4: "_s3"}[level]
