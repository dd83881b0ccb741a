"""The yardstick of speed: a plain U-Net with random weights, of a size that is known everywhere.

Times of machines cannot be compared, ratios to this network in the same run can. Not for use: it
predicts nothing.
"""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import ModelFileError
from .blocks import conv_bn_relu
from .export import OPSET
from .redc_lite import ResidualBlock, enlarge

REFERENCE_HEIGHT, REFERENCE_WIDTH, REFERENCE_CHANNELS = 384, 1248, 5
_WIDTHS, _BLOCKS, _OUTPUTS = (16, 32, 48, 64), (1, 1, 2), 29


class ReferenceUNet(nn.Module):
    """Dense 3x3 convolutions at 1/2 to 1/16, sums as skips, 29 channels enlarged to full size."""

    def __init__(self) -> None:
        """Make it with random weights: 297,181 parameters."""
        super().__init__()
        self.stem = conv_bn_relu(REFERENCE_CHANNELS, _WIDTHS[0], stride=2)
        self.down, self.lateral, self.up = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for (fine, coarse), blocks in zip(itertools.pairwise(_WIDTHS), _BLOCKS, strict=True):
            same = [ResidualBlock(coarse) for _ in range(blocks)]
            self.down.append(nn.Sequential(conv_bn_relu(fine, coarse, stride=2), *same))
            self.lateral.append(nn.Conv2d(coarse, fine, 1))
            self.up.append(conv_bn_relu(fine, fine))
        self.head = nn.Conv2d(_WIDTHS[0], _OUTPUTS, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Turn (1, 5, H, W) into (1, 29, H, W)."""
        x = self.stem(x)
        skips = []
        for down in self.down:
            skips.append(x)
            x = down(x)
        for lateral, up, skip in zip(
            reversed(self.lateral), reversed(self.up), reversed(skips), strict=True
        ):
            x = up(enlarge(lateral(x)) + skip)
        return enlarge(self.head(x))


def export_reference(path: Path) -> None:
    """Write the network as ONNX for 384x1248, with input `x`.

    Raises:
        ModelFileError: the package onnx is missing.
    """
    x = torch.zeros(1, REFERENCE_CHANNELS, REFERENCE_HEIGHT, REFERENCE_WIDTH)
    try:
        with warnings.catch_warnings(), torch.random.fork_rng():
            warnings.simplefilter("ignore")  # see `export.py`
            torch.manual_seed(0)
            network = ReferenceUNet().eval()
            torch.onnx.export(
                network, (x,), str(path), input_names=["x"], opset_version=OPSET, dynamo=False
            )
    except ImportError as error:
        msg = (
            f"--reference: needs the package onnx ({error}); pip install depth_completion[export]"
        )
        raise ModelFileError(msg) from error
