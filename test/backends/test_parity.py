"""Every network gives the same depth with every backend at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from depth_completion_ros import Frame, PinholeCamera, open_completer

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("onnx", reason="needs onnx")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")

from depth_completion_ros.networks.checkpoint import save_network  # noqa: E402
from depth_completion_ros.networks.export import export_onnx  # noqa: E402
from depth_completion_ros.networks.registry import NETWORKS, build_network  # noqa: E402

HEIGHT, WIDTH = 64, 128
NARROW = 0.03125
CASES = {
    "cdspn": ("cdspn", {}),
    "cspn": ("cspn++", {"width": NARROW, "form": "plain", "kernel": 3, "steps": 2}),
    "cspn++": ("cspn++", {"width": NARROW, "iterations": (1, 2)}),
    "cspn++ resource aware": (
        "cspn++",
        {"width": NARROW, "form": "resource", "iterations": (1, 2)},
    ),
    "enet": ("enet", {"width": NARROW}),
    "enet with real rays": ("enet", {"width": NARROW, "geometry": "camera"}),
    "lrru": ("lrru", {"size": "mini", "rows": 48}),
    "lrru without image": ("lrru", {"size": "mini", "modality": "depth"}),
    "msg_chn": ("msg_chn", {"channels": 4}),
    "penet": ("penet", {"width": NARROW}),
    "penet with dilation 1": ("penet", {"width": NARROW, "dilation": 1}),
    "penet with dilation 4": ("penet", {"width": NARROW, "dilation": 4}),
    "redc": ("redc", {"width": NARROW}),
    "redc with 25 taps that replace": ("redc", {"width": NARROW, "kernel": 5, "residual": False}),
    "redc on the filled map": ("redc", {"width": NARROW, "refined_map": "nearest"}),
    "redc on the sparse map": ("redc", {"width": NARROW, "refined_map": "sparse"}),
    "redc_lite": ("redc_lite", {"widths": (4, 8, 8, 8)}),
    "redc_lite without image": ("redc_lite", {"widths": (4, 8, 8, 8), "modality": "depth"}),
}


@pytest.fixture(scope="module", params=CASES)
def files(request, tmp_path_factory) -> Path:
    """Files of a network with random weights, without their ends."""
    name, settings = CASES[request.param]
    torch.manual_seed(4)
    torch.set_num_threads(1)
    network = build_network(name, **settings)
    for buffer_name, buffer in network.named_buffers():
        if buffer_name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    if name == "redc_lite":
        torch.nn.init.normal_(network.head.weight, std=0.3)
    network.eval()
    path = tmp_path_factory.mktemp("parity") / "network"
    save_network(network, path.with_suffix(".safetensors"))
    export_onnx(network, path.with_suffix(".onnx"), size=(HEIGHT, WIDTH))
    return path


@pytest.fixture(scope="module")
def frame() -> Frame:
    random = np.random.default_rng(1)
    height, width = 59, 115
    depth = np.linspace(60, 4, height, dtype=np.float32)[:, None].repeat(width, axis=1)
    depth[height // 2 :, width // 3 : width // 2] = 9.0
    sparse = depth * (random.random((height, width)) < 0.1)
    image = random.integers(0, 256, (height, width, 3), np.uint8)
    K = np.array([[90.0, 0, width / 2], [0, 90.0, height / 2], [0, 0, 1]])
    return Frame(image, PinholeCamera(width, height, K), sparse_depth=sparse)


def test_every_network_is_compared():
    # Steering's kernel regression is no graph.
    assert {name for name, _ in CASES.values()} == set(NETWORKS) - {"steering"}


def test_onnxruntime_gives_what_torch_gives(files, frame):
    dense = {}
    for backend, suffix in (("torch", ".safetensors"), ("onnxruntime", ".onnx")):
        weights = str(files.with_suffix(suffix))
        with open_completer(backend=backend, device="cpu", weights=weights) as completer:
            assert completer.backend == backend
            dense[backend] = completer.complete(frame)
    expected, found = dense["torch"], dense["onnxruntime"]
    # Random weights may give tiny depths, among which 5 mm would be nothing.
    largest = expected.depth.max()
    tolerance = min(5e-3, 1e-3 * largest)
    assert np.mean(expected.depth > 0) > 0.1
    assert expected.depth[expected.depth > 0].std() > 10 * tolerance
    np.testing.assert_allclose(found.depth, expected.depth, atol=tolerance, rtol=1e-3)
    has_estimate = (expected.depth > tolerance) & (found.depth > 0)
    np.testing.assert_allclose(
        found.sigma[has_estimate], expected.sigma[has_estimate], atol=2 * tolerance, rtol=1e-3
    )
    np.testing.assert_allclose(
        found.confidence[has_estimate], expected.confidence[has_estimate], atol=0.04
    )
