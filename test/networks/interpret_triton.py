"""Run the fused kernels in triton's interpreter; print how far they are from torch, as JSON.

A process of its own, as TRITON_INTERPRET=1 must be set before triton is imported.
"""

from __future__ import annotations

import json

import torch
from torch import Tensor

from depth_completion_ros.networks import redc_lite, sampling, triton_refinement

RANDOM = torch.Generator().manual_seed(7)


def guidance(batch: int, taps: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Make weights and offsets; shifts of half-integer taps stay off integers, the kinks."""
    weight = torch.rand(batch, taps, height, width, generator=RANDOM) + 0.1
    size = (batch, 2 * taps, height, width)
    whole = torch.randint(-7, 6, size, generator=RANDOM)
    part = 0.05 + 0.9 * torch.rand(size, generator=RANDOM)
    return weight, (whole + part + 0.5).clamp(-6.9, 6.9)


def relative_errors(ours, reference, tensors: dict[str, Tensor]) -> dict[str, float]:
    """Compare outputs and gradients, each relative to the largest value."""
    results = []
    grad_out = None
    for function in (ours, reference):
        leaves = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        for leaf in leaves.values():
            leaf.requires_grad_()
        out = function(*leaves.values())
        if grad_out is None:
            grad_out = torch.randn(out.shape, generator=RANDOM)
        out.backward(grad_out)
        results.append({"out": out.detach(), **{n: leaf.grad for n, leaf in leaves.items()}})
    errors = {}
    for name, expected in results[1].items():
        difference = (results[0][name].float() - expected.float()).abs().max()
        errors[name] = (difference / expected.float().abs().max()).item()
    return errors


def published_pass(batch: int, height: int, width: int, **options) -> dict[str, float]:
    depth = torch.rand(batch, 1, height, width, generator=RANDOM) * 80
    weight, offset = guidance(batch, options.get("kernel", 3) ** 2, height, width)
    return compare_refine({"depth": depth, "weight": weight, "offset": offset}, **options)


def compare_refine(tensors: dict[str, Tensor], **options) -> dict[str, float]:
    assert triton_refinement.why_not_fused(*tensors.values()) == ""
    return relative_errors(
        lambda *arguments: triton_refinement.refine(*arguments, **options),
        lambda *arguments: sampling.refine(*arguments, **options),
        tensors,
    )


def on_the_kinks() -> dict[str, float]:
    """Shifts of whole pixels, -9 to 9: at integers, at the reach and at the end of the fade."""
    depth = torch.rand(1, 1, 10, 20, generator=RANDOM) * 80
    weight = torch.rand(1, 9, 10, 20, generator=RANDOM)
    offset = torch.randint(-9, 9, (1, 18, 10, 20), generator=RANDOM) + 0.5
    return compare_refine({"depth": depth, "weight": weight, "offset": offset})


def channels_last_halves() -> dict[str, float]:
    depth = torch.rand(1, 1, 8, 12, generator=RANDOM) * 80
    weight, offset = (
        tensor.half().contiguous(memory_format=torch.channels_last)
        for tensor in guidance(1, 9, 8, 12)
    )
    return compare_refine({"depth": depth, "weight": weight, "offset": offset})


def half_size_pass() -> dict[str, float]:
    depth = torch.rand(1, 1, 12, 16, generator=RANDOM) * 80 + 1
    weight, offset = guidance(1, 9, 6, 8)
    weight = weight - weight.mean(1, keepdim=True)
    offset = offset - 0.5  # its taps are whole pixels

    def ours(depth: Tensor, weight: Tensor, offset: Tensor) -> Tensor:
        taps = redc_lite.centred_taps(3)
        refined = triton_refinement.add_samples(
            depth, depth, weight, offset, taps, reach=8.0, repeat_border=True
        )
        return torch.maximum(refined, redc_lite.LEAST_SHARE * depth)

    def reference(depth: Tensor, weight: Tensor, offset: Tensor) -> Tensor:
        return redc_lite.refine_at_half_size(depth, weight, offset, max_offset=7.0)

    return relative_errors(ours, reference, {"depth": depth, "weight": weight, "offset": offset})


if __name__ == "__main__":
    torch.set_num_threads(1)
    cases = {
        "residual": published_pass(1, 16, 24),
        "divided by the sum": published_pass(2, 7, 11, residual=False),
        "kernel 5": published_pass(1, 5, 6, kernel=5),
        "window 7": published_pass(1, 8, 12, window=7),
        "on the kinks": on_the_kinks(),
        "channels last, half precision": channels_last_halves(),
        "half size, repeated border": half_size_pass(),
    }
    print(json.dumps(cases))
