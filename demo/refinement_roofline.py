"""Compare the fused refinement kernel with what the GPU's memory could give, in one run.

    python demo/refinement_roofline.py [--height 352] [--width 1216]

The kernel must read 27 planes of guidance and the map and write the result; nobody can do that
faster than the memory copies. Prints its time, the torch form's, and that share. Needs a GPU.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable

import torch

from depth_completion_ros.networks import sampling, triton_refinement


def main() -> int:
    """Measure and print; the exit status is 2 without a GPU or triton."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--height", type=int, default=352)
    parser.add_argument("--width", type=int, default=1216)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("refinement_roofline: found no CUDA device, expected one", file=sys.stderr)
        return 2
    size = (arguments.height, arguments.width)
    depth = torch.rand(1, 1, *size, device="cuda") * 80
    reason = triton_refinement.why_not_fused(depth)
    if reason:
        print(f"refinement_roofline: the kernel cannot run ({reason})", file=sys.stderr)
        return 2
    large = torch.empty(2**28, device="cuda")  # 1 GB: far more than any cache
    copied = 2 * large.nbytes / seconds(lambda: large.clone(), large)
    print(f"{torch.cuda.get_device_name()}: copies {copied / 1e9:.0f} GB/s")
    with torch.inference_mode():
        for kind in (torch.float32, torch.float16):
            weight = torch.rand(1, 9, *size, device="cuda").to(kind)
            offset = (torch.randn(1, 18, *size, device="cuda") * 3).to(kind)
            fused = seconds(lambda: triton_refinement.refine(depth, weight, offset), large)  # noqa: B023
            plain = seconds(lambda: sampling.refine(depth, weight, offset), large)  # noqa: B023
            moved = 2 * depth.nbytes + weight.nbytes + offset.nbytes
            print(
                f"{str(kind)[6:]:8} kernel {fused * 1e6:7.1f} us, torch {plain * 1e6:7.1f} us, "
                f"{moved / 1e6:.1f} MB, {moved / fused / copied:.0%} of the roofline"
            )
    return 0


def seconds(function: Callable[[], object], large: torch.Tensor) -> float:
    """Give the median time of a call on the GPU, with caches emptied before each."""
    for _ in range(3):
        function()
    times = []
    for _ in range(30):
        large[: 2**26].zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
