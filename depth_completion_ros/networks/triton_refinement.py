"""Single-pass deformable refinement as one fused CUDA kernel, where that is possible.

The same function as `sampling.py`, which is the reference and what runs everywhere else; tests
hold the two equal, gradients included. Not here: the kernels themselves (`triton_kernels.py`).
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import sampling
from .guidance import published_taps

Taps = Sequence[tuple[float, float]]

_TORCH_FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "as_given": nn.Identity(),
    "subtract_mean": sampling.subtract_mean,
    "divide_by_sum": sampling.divide_by_sum,
}


def refine(
    depth: Tensor,
    weight: Tensor,
    offset: Tensor,
    *,
    kernel: int = 3,
    window: int = 15,
    residual: bool = True,
) -> Tensor:
    """Refine a depth map with one deformable pass; arguments are those of `sampling.refine`."""
    return add_samples(
        depth if residual else torch.zeros_like(depth),
        depth,
        weight,
        offset,
        published_taps(kernel),
        normalise="subtract_mean" if residual else "divide_by_sum",
        reach=(window - 1) / 2,
    )


def add_samples(
    start: Tensor,
    depth: Tensor,
    weight: Tensor,
    offset: Tensor,
    taps: Taps,
    *,
    normalise: str = "as_given",
    reach: float,
    repeat_border: bool = False,
) -> Tensor:
    """Add a weighted sum of bilinear samples around each pixel to a map.

    Guidance of any dense layout is read where it lies: channels last costs no copy.

    Args:
        start: (B, 1, H, W), what the sum is added to.
        depth: (B, 1, H, W), the map to sample.
        weight: (B, T, h, w), h x w is the map's size or half of it: 2x2 pixels then share it.
        offset: (B, 2T, h, w) pixels of the map, x before y for each tap.
        taps: T times x and y of the tap relative to the pixel at zero offset.
        normalise: `as_given`, `subtract_mean` or `divide_by_sum` of the weights of a pixel.
        reach: pixels; corners of a sample count as 0 beyond it.
        repeat_border: True goes on outside with the value of the border; False with 0.

    Returns:
        (B, 1, H, W) float32; float64 where an argument is.
    """
    if why_not_fused(start, depth, weight, offset):
        return _add_with_torch(start, depth, weight, offset, taps, normalise, reach, repeat_border)
    fused: Tensor = FusedSamples.apply(  # type: ignore[no-untyped-call]
        start, depth, weight, offset, tuple(taps), normalise, float(reach), repeat_border
    )
    return fused


def why_not_fused(*tensors: Tensor) -> str:
    """Tell why the fused kernel cannot take these tensors; empty if it can."""
    if not _has_triton():
        return "triton is not installed"
    if tensors[0].device.type != "cuda" and not _kernels().IS_INTERPRETED:
        return f"the tensors are on the {tensors[0].device.type}"
    if any(tensor.dtype == torch.float64 for tensor in tensors):
        return "the kernel works in float32"
    if torch.onnx.is_in_onnx_export() or torch.compiler.is_compiling():
        return "the graph is being traced"
    if torch.are_deterministic_algorithms_enabled() and any(t.requires_grad for t in tensors):
        return "the gradient of the map adds up in any order"
    return ""


class FusedSamples(torch.autograd.Function):
    """Run the fused kernel; arguments are those of `add_samples`, checked by `why_not_fused`."""

    @staticmethod
    def forward(
        ctx: Any,
        start: Tensor,
        depth: Tensor,
        weight: Tensor,
        offset: Tensor,
        taps: Taps,
        normalise: str,
        reach: float,
        repeat_border: bool,
    ) -> Tensor:
        """Compute the sum in one pass over the guidance, without a buffer."""
        start, depth = (tensor.float().contiguous() for tensor in (start, depth))
        weight, offset = _with_one_stride(weight), _with_one_stride(offset)
        out = torch.empty_like(start)
        options = _Options.of(depth, weight, taps, normalise, reach, repeat_border)
        _launch(_kernels().sum_samples, options, (start, depth, weight, offset, out), {})
        ctx.save_for_backward(depth, weight, offset)
        ctx.options = options
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        """Compute all gradients in one pass; that of the map by atomic additions."""
        depth, weight, offset = ctx.saved_tensors
        to_start, to_depth, to_weight, to_offset, *_ = ctx.needs_input_grad
        if not (to_depth or to_weight or to_offset):
            return (grad_out if to_start else None, *[None] * 7)
        grad_depth = torch.zeros_like(depth) if to_depth else depth  # unused if not asked for
        grad_weight = torch.empty_like(weight, dtype=torch.float32)
        grad_offset = torch.empty_like(offset, dtype=torch.float32)
        received = grad_out.float().contiguous()
        _launch(
            _kernels().sum_samples_backward,
            ctx.options,
            (received, depth, weight, offset, grad_depth, grad_weight, grad_offset),
            {"WITH_DEPTH": to_depth},
        )
        return (
            grad_out if to_start else None,
            grad_depth if to_depth else None,
            grad_weight.to(weight.dtype) if to_weight else None,
            grad_offset.to(offset.dtype) if to_offset else None,
            *[None] * 4,
        )


class _Options(dict[str, Any]):
    """Hold the constants that a kernel is compiled for."""

    @classmethod
    def of(
        cls,
        depth: Tensor,
        weight: Tensor,
        taps: Taps,
        normalise: str,
        reach: float,
        repeat_border: bool,
    ) -> _Options:
        kernels = _kernels()
        forms = {
            "as_given": kernels.AS_GIVEN,
            "subtract_mean": kernels.SUBTRACT_MEAN,
            "divide_by_sum": kernels.DIVIDE_BY_SUM,
        }
        return cls(
            TAPS=tuple(float(place) for tap in taps for place in tap),
            REACH=float(reach),
            NORMALISE=forms[normalise],
            REPEAT_BORDER=repeat_border,
            SCALE=depth.shape[2] // weight.shape[2],
            BLOCK=kernels.BLOCK,
        )


def _launch(
    kernel: Any, options: _Options, tensors: tuple[Tensor, ...], more: dict[str, Any]
) -> None:
    _, depth, weight, offset = tensors[:4]
    batch, _, height, width = depth.shape
    blocks = -(-weight.shape[2] * weight.shape[3] // options["BLOCK"])
    # Triton launches on the current device.
    device = torch.cuda.device(depth.device) if depth.is_cuda else contextlib.nullcontext()
    with device:
        kernel[(blocks, batch)](
            *tensors,
            height,
            width,
            *_strides(weight),
            *_strides(offset),
            **options,
            **more,
            enable_fp_fusion=True,  # as in torch's own kernels; triton's default changes
        )


def _strides(tensor: Tensor) -> tuple[int, int, int]:
    """Give the steps from image to image, channel to channel and pixel to pixel."""
    return tensor.stride(0), tensor.stride(1), tensor.stride(3)


def _with_one_stride(tensor: Tensor) -> Tensor:
    """Copy guidance unless it is dense and its pixels follow each other at equal steps."""
    for layout in (torch.contiguous_format, torch.channels_last):
        if tensor.is_contiguous(memory_format=layout):
            return tensor
    return tensor.contiguous()


def _add_with_torch(
    start: Tensor,
    depth: Tensor,
    weight: Tensor,
    offset: Tensor,
    taps: Taps,
    normalise: str,
    reach: float,
    repeat_border: bool,
) -> Tensor:
    scale = depth.shape[2] // weight.shape[2]
    if scale > 1:
        weight, offset = (
            F.interpolate(tensor, scale_factor=scale, mode="nearest")
            for tensor in (weight, offset)
        )
    exact = torch.promote_types(offset.dtype, torch.float32)
    return sampling.add_samples(
        start,
        depth,
        weight,
        offset,
        torch.tensor(taps, dtype=exact, device=offset.device),
        _TORCH_FORMS[normalise],
        reach=reach,
        repeat_border=repeat_border,
    )


@functools.lru_cache(maxsize=1)
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


@functools.lru_cache(maxsize=1)
def _kernels() -> Any:
    return importlib.import_module(".triton_kernels", __package__)
