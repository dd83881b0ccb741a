"""What the tests of the networks share: weights and inputs by recipe, golden vectors.

The recipe and the inputs are described beside the data they belong to, in shared/reference.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn


class Inputs(NamedTuple):
    image: Tensor  # (1, 3, H, W) 0 to 255
    sparse: Tensor  # (1, 1, H, W) metres
    truth: Tensor  # (1, 1, H, W) metres


@pytest.fixture(autouse=True)
def _few_threads() -> None:
    """Waiting for a busy machine's second core costs more than it brings."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def golden(reference: Path) -> Callable[[str], dict[str, Tensor]]:
    """Read a golden file as tensors."""

    def read(name: str) -> dict[str, Tensor]:
        with np.load(reference / f"{name}_golden.npz") as archive:
            return {key: torch.from_numpy(np.asarray(archive[key])) for key in archive}

    return read


@pytest.fixture(scope="session")
def expected_tensors(reference: Path) -> Callable[[str], dict[str, tuple[int, ...]]]:
    """Read names and shapes of the tensors of a published network."""

    def read(name: str) -> dict[str, tuple[int, ...]]:
        lines = (reference / f"{name}_state_dict.txt").read_text().splitlines()
        table = [line.split("\t") for line in lines if not line.startswith("#")]
        return {
            name: () if shape == "scalar" else tuple(int(n) for n in shape.split("x"))
            for name, shape, *_ in table
        }

    return read


@pytest.fixture(scope="session")
def recipe_weights(reference: Path) -> Callable[[str, nn.Module], None]:
    """Fill a network with the weights that the golden vectors were made with."""
    scales = json.loads((reference / "weight_scales.json").read_text())

    def fill(name: str, network: nn.Module) -> None:
        for key, tensor in network.state_dict().items():
            scale, shift = scales.get(name, {}).get(key, (1.0, 0.0))
            tensor.copy_(torch.from_numpy(_recipe(key, tuple(tensor.shape), scale, shift)))
        network.eval()

    return fill


@pytest.fixture(scope="session")
def recipe_inputs() -> Callable[[int, int], Inputs]:
    """Make the inputs that the golden vectors were made with."""
    return _inputs


@pytest.fixture
def street() -> Callable[..., Inputs]:
    """Make small inputs of any size and batch: a ramp, sparsely measured."""

    def make(height: int, width: int, batch: int = 1, density: float = 0.1) -> Inputs:
        generator = torch.Generator().manual_seed(5)
        image = torch.rand(batch, 3, height, width, generator=generator) * 255
        ramp = torch.linspace(60, 4, height)[:, None].expand(batch, 1, height, width)
        measured = torch.rand(batch, 1, height, width, generator=generator) < density
        return Inputs(image, ramp * measured, ramp)

    return make


def _generator(tag: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(tag.encode())))


def _recipe(name: str, shape: tuple[int, ...], scale: float, shift: float) -> np.ndarray:
    random, leaf = _generator(name), name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.zeros((), np.int64)
    if leaf == "running_var":
        values = random.uniform(0.5, 1.5, shape)
    elif leaf in ("running_mean", "bias", "b"):
        values = 0.1 * random.standard_normal(shape)
    elif leaf == "w":
        values = 1 + 0.1 * random.standard_normal(shape)
    elif len(shape) == 1:
        values = random.uniform(0.75, 1.25, shape)
    else:
        values = random.standard_normal(shape) * (1 / np.sqrt(np.prod(shape[1:])))
    return (values * scale + shift).astype(np.float32)


def _inputs(height: int, width: int) -> Inputs:
    tag = f"{height}x{width}"
    cells = -(-height // 8), -(-width // 8)

    def enlarge(cell_values: np.ndarray) -> np.ndarray:
        return cell_values.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]

    random = _generator(f"input/rgb/{tag}")
    color = enlarge(random.integers(0, 256, (*cells, 3)))
    color = np.clip(color + random.integers(-16, 17, (height, width, 3)), 0, 255)
    random = _generator(f"input/depth/{tag}")
    dense = enlarge(random.integers(1280, 15360, cells))
    dense = dense + random.integers(-128, 129, (height, width))
    measured = random.integers(0, 100, (height, width)) < 6
    measured[: height // 3] = False
    known = random.integers(0, 100, (height, width)) < 30
    depth = np.where(measured, dense, 0)
    truth = np.where(known, dense + random.integers(-64, 65, (height, width)), 0)
    return Inputs(
        torch.from_numpy(color.astype(np.float32)).permute(2, 0, 1)[None],
        torch.from_numpy((depth / 256).astype(np.float32))[None, None],
        torch.from_numpy((truth / 256).astype(np.float32))[None, None],
    )
