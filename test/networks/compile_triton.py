"""Compile the fused kernels for GPUs that are not there; print what came out, as JSON."""

from __future__ import annotations

import json
import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from depth_completion_ros.networks import triton_kernels
from depth_completion_ros.networks.guidance import published_taps

CONSTANTS = {
    "TAPS": tuple(place for tap in published_taps(3) for place in tap),
    "REACH": 7.0,
    "NORMALISE": triton_kernels.SUBTRACT_MEAN,
    "REPEAT_BORDER": False,
    "SCALE": 1,
    "BLOCK": triton_kernels.BLOCK,
}
FLOAT_MAPS = {
    "start", "depth", "out", "grad_out", "grad_depth", "grad_weight", "grad_offset",
}  # fmt: skip


def compile_kernel(kernel, capability: int, guidance: str, **more) -> dict[str, int]:
    constants = {**CONSTANTS, **more}
    signature = {}
    for name in kernel.arg_names:
        if name in constants:
            signature[name] = "constexpr"
        elif name in FLOAT_MAPS:
            signature[name] = "*fp32"
        else:
            signature[name] = guidance if name in ("weight", "offset") else "i32"
    compiled = triton.compile(
        ASTSource(kernel, signature, constants),
        target=GPUTarget("cuda", capability, 32),
        options={"enable_fp_fusion": True},
    )
    ptx = compiled.asm["ptx"]
    return {
        "target": f".target sm_{capability}" in ptx,
        "cubin": len(compiled.asm["cubin"]),
        "additions": ptx.count("red.global") + ptx.count("atom.global"),
        "spills": ptx.count(".local"),
    }


if __name__ == "__main__":
    capability = int(sys.argv[1])
    forward, backward = triton_kernels.sum_samples, triton_kernels.sum_samples_backward
    results = {
        "forward": compile_kernel(forward, capability, "*fp16"),
        "backward": compile_kernel(backward, capability, "*fp32", WITH_DEPTH=True),
    }
    print(json.dumps(results))
