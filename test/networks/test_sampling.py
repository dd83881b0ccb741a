from __future__ import annotations

import pytest
import torch
from torch import Tensor

from depth_completion_ros.networks.published_refinement import refine_unfolded
from depth_completion_ros.networks.sampling import add_samples, refine, subtract_mean

GRADIENT_CASES = ("k3", "k5", "k3_norm")
CASES = (
    *GRADIENT_CASES,
    "k3_zero_offset",
    "k3_int_offset",
    "k3_half_offset",
    "k3_x_only",
    "k3_window7",
    "k3_tiny_image",
)


def options(case: dict[str, Tensor], name: str) -> dict[str, int | bool]:
    kernel, window, residual = case[f"{name}/meta"].tolist()
    return {"kernel": kernel, "window": window, "residual": bool(residual)}


@pytest.mark.parametrize("name", CASES)
def test_refinement_is_the_published_one(golden, name):
    case = golden("refine")
    depth, weight, offset = (case[f"{name}/{part}"] for part in ("depth", "weight", "offset"))
    refined = refine(depth, weight, offset, **options(case, name))
    torch.testing.assert_close(refined, case[f"{name}/out"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", GRADIENT_CASES)
def test_gradients_are_the_published_ones(golden, name):
    case = golden("refine")
    parts = ("depth", "weight", "offset")
    inputs = [case[f"{name}/{part}"].requires_grad_() for part in parts]
    refine(*inputs, **options(case, name)).backward(case[f"{name}/grad_out"])
    for part, tensor in zip(parts, inputs, strict=True):
        expected = case[f"{name}/grad_{part}"]
        tolerance = 1e-5 * expected.abs().max().item()
        torch.testing.assert_close(tensor.grad, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("kernel", [3, 5])
def test_every_tap_answers_where_the_published_one_does(golden, kernel):
    expected = golden("refine")[f"tap_response_k{kernel}"]
    taps = kernel * kernel
    depth = torch.zeros(1, 1, 31, 31)
    depth[0, 0, 15, 15] = 1
    for tap in range(taps):
        weight = torch.zeros(1, taps, 31, 31)
        weight[:, tap] = 1
        offset = torch.zeros(1, 2 * taps, 31, 31)
        response = refine(depth, weight, offset, kernel=kernel, residual=False)
        torch.testing.assert_close(response[0, 0], expected[tap], atol=1e-6, rtol=0)


def random_case(height: int, width: int, batch: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    depth = torch.rand(batch, 1, height, width, generator=generator) * 80
    weight = torch.rand(batch, 9, height, width, generator=generator)
    offset = torch.randn(batch, 18, height, width, generator=generator) * 4
    return depth, weight, offset


def test_sampling_directly_equals_unfolding_windows():
    # 70 x 1100 pixels are worked on in more than one strip.
    arguments = random_case(70, 1100)
    torch.testing.assert_close(
        refine(*arguments), refine_unfolded(*arguments), atol=2e-3, rtol=1e-4
    )


def test_strips_and_batches_change_nothing():
    arguments = random_case(70, 1100, batch=2)
    depth, weight, offset = (tensor.clone().requires_grad_() for tensor in arguments)
    in_one_piece = refine(depth, weight, offset).detach()
    torch.testing.assert_close(refine(*arguments), in_one_piece, atol=1e-4, rtol=0)
    second = refine(*(tensor[1:] for tensor in arguments))
    torch.testing.assert_close(in_one_piece[1:], second, atol=1e-4, rtol=0)


def test_a_sample_fades_out_over_the_pixel_beyond_its_window():
    depth = torch.full((1, 1, 1, 41), 10.0)
    weight = torch.ones(1, 1, 1, 41)
    start, tap = torch.zeros_like(depth), torch.zeros(1, 2)
    for x, expected in ((0.0, 10.0), (7.0, 10.0), (7.25, 7.5), (-7.75, 2.5), (8.0, 0.0)):
        offset = torch.tensor([x, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 41)
        sum_ = add_samples(start, depth, weight, offset, tap, lambda w: w, reach=7)
        assert sum_[0, 0, 0, 20].item() == expected


def test_a_sample_without_limit_finds_0_outside_the_map():
    depth = torch.full((1, 1, 3, 4), 8.0)
    weight = torch.ones(1, 1, 3, 4)
    start, tap = torch.zeros_like(depth), torch.zeros(1, 2)
    for x, y, expected in ((-0.5, 0.0, 4.0), (-1.0, 0.0, 0.0), (3.0, 2.0, 8.0), (1e6, -1e6, 0.0)):
        offset = torch.tensor([x, y]).view(1, 2, 1, 1).expand(1, 2, 3, 4)
        sum_ = add_samples(start, depth, weight, offset, tap, lambda w: w)
        assert sum_[0, 0, 0, 0].item() == expected


@pytest.mark.parametrize("reach", [None, 2.0])
def test_gradients_are_the_derivative(reach):
    depth, weight, offset = (tensor.double() for tensor in random_case(4, 5))
    parts = depth, weight[:, :2], offset[:, :4] / 2
    arguments = [tensor.clone().requires_grad_() for tensor in parts]
    taps = torch.zeros(2, 2, dtype=torch.float64)

    def sum_of_samples(depth: Tensor, weight: Tensor, offset: Tensor) -> Tensor:
        return add_samples(depth, depth, weight, offset, taps, lambda w: w, reach=reach)

    assert torch.autograd.gradcheck(sum_of_samples, arguments, eps=1e-7, atol=1e-4)


@pytest.mark.parametrize(
    "options", [{}, {"reach": 7.0}, {"reach": 7.0, "repeat_border": True}], ids=str
)
def test_the_form_for_export_gives_the_same(monkeypatch, options):
    depth, weight, offset = random_case(20, 30, batch=2)
    taps = torch.rand(9, 2) * 4 - 2
    arguments = (depth, depth, weight, 2 * offset, taps, subtract_mean)
    expected = add_samples(*arguments, **options)
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    exported = add_samples(*arguments, **options)
    assert not torch.equal(exported, expected)
    torch.testing.assert_close(exported, expected, atol=5e-3, rtol=1e-4)


def test_half_precision_guidance_is_sampled_in_full():
    depth, weight, offset = random_case(4, 1400)
    halves = weight.half(), offset.half()
    refined = refine(depth, *halves)
    assert refined.dtype == torch.float32
    expected = refine(depth, *(tensor.float() for tensor in halves))
    torch.testing.assert_close(refined, expected, atol=0, rtol=0)


def test_memory_is_a_tenth_of_the_published_form():
    arguments = random_case(176, 1216)
    ours, published = (peak_memory(form, arguments) for form in (refine, refine_unfolded))
    assert ours < 0.1 * published


def peak_memory(function, arguments) -> int:
    """Bytes that the call had allocated at once, as torch's profiler saw it."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function(*arguments)
    events = profiler.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    total = peak = 0
    for _, change in changes:
        total += change
        peak = max(peak, total)
    return peak
