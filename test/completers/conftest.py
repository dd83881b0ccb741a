"""Small networks in files, and a street to complete."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from depth_completion_ros import Frame, PinholeCamera


@pytest.fixture
def street() -> Callable[..., Frame]:
    """Make a frame of any size: a ramp with a box, seen by beams every fourth row."""

    def make(height: int = 75, width: int = 106, focal: float = 90.0) -> Frame:
        random = np.random.default_rng(1)
        depth = np.linspace(60, 4, height, dtype=np.float32)[:, None].repeat(width, axis=1)
        depth[height // 2 :, width // 3 : width // 2] = 9.0
        measured = random.random((height, width)) < 0.5
        measured &= (np.arange(height) % 4 == 2)[:, None]
        measured[: height // 4] = False
        image = random.integers(0, 256, (height, width, 3), np.uint8)
        K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
        camera = PinholeCamera(width, height, K)
        return Frame(image, camera, sparse_depth=depth * measured, stamp=5)

    return make


@pytest.fixture(scope="session")
def model_files(tmp_path_factory) -> Callable[..., Path]:
    """Write a small redc_lite as `NAME.safetensors` and `NAME.onnx`; give the path without end."""
    folder = tmp_path_factory.mktemp("models")

    def write(name: str = "redc_lite", *, spread: float = 0.0, **options: object) -> Path:
        torch = pytest.importorskip("torch", reason="needs torch")
        pytest.importorskip("onnx", reason="needs onnx")
        from depth_completion_ros.networks.checkpoint import save_network
        from depth_completion_ros.networks.export import export_onnx
        from depth_completion_ros.networks.registry import build_network

        calibration = str(options.pop("calibration", "{}"))
        torch.manual_seed(3)
        torch.set_num_threads(1)
        network = build_network("redc_lite", **{"widths": (4, 8, 8, 8), **options}).eval()
        if spread:
            torch.nn.init.normal_(network.head.weight, std=spread)
        path = folder / name
        metadata = {"calibration": calibration}
        save_network(network, path.with_suffix(".safetensors"), metadata)
        export_onnx(network, path.with_suffix(".onnx"), metadata=metadata)
        return path

    return write
