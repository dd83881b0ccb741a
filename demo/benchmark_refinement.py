"""Time the refinements of ReDC and PENet against their published forms, in one run.

    python demo/benchmark_refinement.py [--height 352] [--width 1216] [--threads 1]

Prints a table: median time and peak allocated memory of both forms, and the ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from depth_completion_ros.networks.penet import KERNELS, normalise_affinity, propagate_dilated
from depth_completion_ros.networks.published_refinement import propagate_one_hot, refine_unfolded
from depth_completion_ros.networks.sampling import refine

Call = Callable[[], object]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--height", type=int, default=352)
    parser.add_argument("--width", type=int, default=1216)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print(f"{'refinement':24} {'ours':>20} {'published':>20} {'faster':>8} {'memory':>8}")
    for name, ours, published in refinements(arguments.height, arguments.width):
        # Alternating, so that a busy machine slows down both.
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(arguments.repeats):
            for call, measured in zip((ours, published), times, strict=True):
                start = time.perf_counter()
                call()
                measured.append(time.perf_counter() - start)
        t, t_published = (statistics.median(measured) for measured in times)
        m, m_published = peak_memory(ours), peak_memory(published)
        print(
            f"{name:24} {t * 1e3:9.1f} ms {m / 1e6:5.0f} MB "
            f"{t_published * 1e3:9.1f} ms {m_published / 1e6:5.0f} MB "
            f"{t_published / t:7.1f}x {m_published / m:7.1f}x"
        )


def refinements(height: int, width: int) -> Iterator[tuple[str, Call, Call]]:
    """Give name, our form and the published form of each refinement."""
    depth = torch.rand(1, 1, height, width) * 80
    for kernel in (3, 5):
        weight = torch.rand(1, kernel**2, height, width)
        offset = torch.randn(1, 2 * kernel**2, height, width) * 3
        yield (
            f"deformable, k = {kernel}",
            without_graph(refine, depth, weight, offset, kernel=kernel),
            without_graph(refine_unfolded, depth, weight, offset, kernel=kernel),
        )
    for dilation in (2, 1):
        size = (height // dilation, width // dilation)
        affinities = [normalise_affinity(torch.randn(1, k * k - 1, *size)) for k in KERNELS]
        confidence = torch.softmax(torch.randn(1, 3, *size), 1)
        measured = torch.rand(1, 1, *size) * 80 * (torch.rand(1, 1, *size) < 0.05)
        stage = (depth, affinities, confidence, 0.5 * (measured > 0), measured)
        yield (
            f"PENet, dilation {dilation}",
            without_graph(propagate_dilated, *stage, dilation=dilation, steps=6),
            without_graph(propagate_one_hot, *stage, dilation=dilation, steps=6),
        )


def without_graph(function: Callable[..., Tensor], *arguments: object, **options: int) -> Call:
    """Bind the arguments of an inference."""

    def call() -> Tensor:
        with torch.no_grad():
            return function(*arguments, **options)

    return call


def peak_memory(call: Call) -> int:
    """Count the bytes that a call has allocated at once."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    events = profiler.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    total = peak = 0
    for _, change in changes:
        total += change
        peak = max(peak, total)
    return peak


if __name__ == "__main__":
    main()
