from __future__ import annotations

import numpy as np
import pytest
import torch

from depth_completion_ros.backends import refinement
from depth_completion_ros.backends.refinement import add_samples
from depth_completion_ros.networks import sampling
from depth_completion_ros.networks.guidance import centred_taps, published_taps

# auto is remap with OpenCV 5 and later.
METHODS = ("auto", "numpy")
MAX_ERROR = {"auto": 5e-3, "numpy": 1e-4}


def street(height: int, width: int) -> np.ndarray:
    random = np.random.default_rng(2)
    ramp = np.linspace(60, 4, height, dtype=np.float32)[:, None].repeat(width, axis=1)
    ramp[height // 3 :, width // 4 : width // 2] = 9.0
    return ramp + random.random((height, width), np.float32)


def guidance(taps: int, height: int, width: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    weight = random.random((taps, height, width), np.float32)
    offset = spread * random.standard_normal((2 * taps, height, width)).astype(np.float32)
    return weight, offset


def with_torch(depth, weight, offset, taps, reach, repeat_border):
    maps = [torch.from_numpy(array)[None] for array in (depth[None], weight, offset)]
    scale = depth.shape[0] // weight.shape[1]
    full = [map_.repeat_interleave(scale, 2).repeat_interleave(scale, 3) for map_ in maps[1:]]
    refined = sampling.add_samples(
        maps[0], maps[0], *full, torch.tensor(taps), torch.nn.Identity(),
        reach=reach, repeat_border=repeat_border,
    )  # fmt: skip
    return refined[0, 0].numpy()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("scale", "taps", "reach", "repeat_border", "spread"),
    [
        (2, centred_taps(3), 8, True, 2.0),
        (2, centred_taps(5), 9, True, 2.0),
        (1, published_taps(3), 7, False, 4.0),  # many samples fade out or leave the map
        (1, published_taps(5), 7, False, 9.0),
        (2, centred_taps(1), 3, False, 3.0),
    ],
)
def test_it_equals_the_torch_sampler(method, scale, taps, reach, repeat_border, spread):
    depth = street(46, 66)
    weight, offset = guidance(len(taps), 46 // scale, 66 // scale, spread)
    weight -= 0.4
    expected = with_torch(depth, weight, offset, taps, reach, repeat_border)
    refined = add_samples(
        depth, depth, weight, offset, taps, reach=reach, repeat_border=repeat_border, method=method
    )
    assert np.abs(expected - depth).max() > 5
    assert np.abs(refined - expected).max() < MAX_ERROR[method]


@pytest.mark.parametrize("method", METHODS)
def test_a_sample_fades_out_over_the_pixel_beyond_the_reach(method):
    depth = np.full((5, 41), 8.0, np.float32)
    weight = np.ones((1, 5, 41), np.float32)
    start = np.zeros_like(depth)
    for shift, expected in ((2.0, 8.0), (2.25, 6.0), (-2.5, 4.0), (3.0, 0.0), (30.0, 0.0)):
        offset = np.zeros((2, 5, 41), np.float32)
        offset[0] = shift
        refined = add_samples(start, depth, weight, offset, [(0, 0)], reach=2, method=method)
        assert refined[2, 20] == pytest.approx(expected, abs=1e-4)
    assert not start.any()


@pytest.mark.parametrize("method", METHODS)
def test_constant_depth_stays_what_it_is(method):
    depth = np.full((32, 48), 7.0, np.float32)
    weight, offset = guidance(9, 16, 24, 2.0)
    weight /= weight.sum(0)
    refined = add_samples(
        np.zeros_like(depth), depth, weight, np.clip(offset, -7, 7), centred_taps(3),
        reach=8, repeat_border=True, method=method,
    )  # fmt: skip
    np.testing.assert_allclose(refined, 7, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_it_equals_the_published_pass(reference, method):
    with np.load(reference / "refine_golden.npz") as golden:
        arrays = {name: golden[name] for name in golden}
    cases = sorted({name.split("/")[0] for name in arrays if "/" in name})
    assert len(cases) == 9
    for case in cases:
        kernel, window, is_residual = (int(n) for n in arrays[f"{case}/meta"])
        depth, weight, offset, expected = (
            arrays[f"{case}/{name}"][0] for name in ("depth", "weight", "offset", "out")
        )
        weight = weight - weight.mean(0) if is_residual else weight / weight.sum(0)
        start = depth[0] if is_residual else np.zeros_like(depth[0])
        refined = add_samples(
            start,
            depth[0],
            weight,
            offset,
            published_taps(kernel),
            reach=(window - 1) / 2,
            method=method,
        )
        np.testing.assert_allclose(
            refined, expected[0], atol=MAX_ERROR[method], rtol=1e-6, err_msg=case
        )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [1, 2])
def test_large_maps_are_done_in_strips_without_a_seam(monkeypatch, method, scale):
    depth = street(46, 66)
    weight, offset = guidance(9, 46 // scale, 66 // scale, 3.0)
    arguments = (depth, depth, weight, offset, centred_taps(3))
    options = {"reach": 8, "repeat_border": True, "method": method}
    at_once = add_samples(*arguments, **options)
    monkeypatch.setattr(refinement, "_STRIP_PIXELS", 5 * 66 // scale)
    np.testing.assert_allclose(add_samples(*arguments, **options), at_once, atol=1e-3)
