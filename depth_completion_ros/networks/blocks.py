"""Building blocks that more than one network uses.

Not here: blocks with a quirk of their own network, such as ENet's residual block with geometry.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_bn(
    channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1
) -> nn.Sequential:
    """Convolve without bias and normalise; the size is divided by the stride."""
    convolution = nn.Conv2d(
        channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=False
    )
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out))


def conv_bn_relu(
    channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1
) -> nn.Sequential:
    """Convolve without bias, normalise, rectify."""
    return nn.Sequential(*conv_bn(channels_in, channels_out, kernel, stride), nn.ReLU())


def deconv_bn_relu(
    channels_in: int, channels_out: int, kernel: int = 5, stride: int = 2
) -> nn.Sequential:
    """Convolve transposed without bias, normalise, rectify; the size is multiplied."""
    deconvolution = nn.ConvTranspose2d(
        channels_in,
        channels_out,
        kernel,
        stride,
        padding=kernel // 2,
        output_padding=stride - 1,
        bias=False,
    )
    return nn.Sequential(deconvolution, nn.BatchNorm2d(channels_out), nn.ReLU())


def nearest_measurement(sparse: Tensor) -> Tensor:
    """Halve a sparse map, keeping the smallest measured depth of each 2x2 cell.

    Args:
        sparse: (B, 1, H, W) metres, 0 = none.

    Returns:
        (B, 1, H / 2, W / 2) metres, 0 where a cell has no measurement.
    """
    lowest = torch.finfo(sparse.dtype).min
    inverted = torch.where(sparse > 0, -sparse, lowest)
    pooled = F.max_pool2d(inverted, 2)
    return torch.where(pooled > lowest, -pooled, 0)
