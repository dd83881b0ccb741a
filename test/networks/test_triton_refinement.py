"""The fused kernel against torch: interpreted, compiled ahead of time, and on a GPU if any."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from depth_completion_ros.networks import redc_lite, sampling, triton_refinement

HERE = Path(__file__).resolve().parent

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="triton is not installed; pip install depth_completion[triton]",
)


def run_script(name: str, *arguments: str, **environment: str):
    """Run a script beside this file; give what it printed as JSON."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("TRITON")}
    path = os.pathsep.join([str(HERE.parents[1]), clean.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, str(HERE / name), *arguments],
        env={**clean, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def interpreted() -> dict[str, dict[str, float]]:
    return run_script("interpret_triton.py", TRITON_INTERPRET="1")


@needs_triton
@pytest.mark.parametrize(
    "case",
    [
        "residual",
        "divided by the sum",
        "kernel 5",
        "window 7",
        "on the kinks",
        "half size, repeated border",
    ],
)
def test_the_kernel_and_its_gradients_are_torchs(interpreted, case):
    errors = interpreted[case]
    assert set(errors) == {"out", "depth", "weight", "offset"}
    assert max(errors.values()) < 1e-5, errors


@needs_triton
def test_halves_in_channels_last_are_read_where_they_lie(interpreted):
    errors = interpreted["channels last, half precision"]
    assert max(errors["out"], errors["depth"]) < 1e-5
    # Gradients are handed back in half precision.
    assert max(errors["weight"], errors["offset"]) < 1e-3


@needs_triton
@pytest.mark.parametrize("capability", [80, 87, 90, 120])
def test_the_kernels_compile_for_gpus_that_are_not_there(capability, tmp_path):
    environment = {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_DISABLE_LINE_INFO": "1"}
    results = run_script("compile_triton.py", str(capability), **environment)
    for kernel in ("forward", "backward"):
        assert results[kernel]["target"]
        assert results[kernel]["cubin"] > 10_000
        assert results[kernel]["spills"] == 0
    assert results["forward"]["additions"] == 0
    # Nine taps, four corners, two pixels of each thread.
    assert results["backward"]["additions"] == 72


def random_case(height: int, width: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    depth = torch.rand(1, 1, height, width, generator=generator) * 80
    weight = torch.rand(1, 9, height, width, generator=generator)
    offset = torch.randn(1, 18, height, width, generator=generator) * 4
    return [depth, weight, offset]


@pytest.mark.parametrize("residual", [True, False])
def test_without_a_gpu_torch_does_it(residual):
    arguments = random_case(9, 13)
    assert triton_refinement.why_not_fused(*arguments)
    refined = triton_refinement.refine(*arguments, residual=residual)
    expected = sampling.refine(*arguments, residual=residual)
    torch.testing.assert_close(refined, expected, atol=0, rtol=0)


def test_without_a_gpu_half_size_guidance_is_shared_by_four_pixels():
    depth, weight, offset = random_case(6, 8)
    depth = torch.rand(1, 1, 12, 16) + 10
    weight = sampling.subtract_mean(weight)
    offset = offset.clamp(-7, 7)
    refined = triton_refinement.add_samples(
        depth, depth, weight, offset, redc_lite.centred_taps(3), reach=8.0, repeat_border=True
    )
    expected = redc_lite.refine_at_half_size(depth, weight, offset, max_offset=7.0)
    limited = torch.maximum(refined, redc_lite.LEAST_SHARE * depth)
    torch.testing.assert_close(limited, expected, atol=0, rtol=0)


def test_double_precision_stays_double():
    arguments = [tensor.double() for tensor in random_case(4, 5)]
    assert triton_refinement.refine(*arguments).dtype == torch.float64


@pytest.mark.gpu
@needs_triton
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_the_kernel_and_its_gradients_are_torchs():
    results = []
    for refine in (triton_refinement.refine, sampling.refine):
        leaves = [tensor.cuda().requires_grad_() for tensor in random_case(352, 1216)]
        refined = refine(*leaves)
        refined.backward(torch.ones_like(refined))
        results.append([refined, *(leaf.grad for leaf in leaves)])
    assert triton_refinement.why_not_fused(*leaves) == ""
    for ours, expected in zip(*results, strict=True):
        assert (ours - expected).abs().max() < 1e-4 * expected.abs().max()
