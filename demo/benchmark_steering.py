"""Time the kernel regression of KernelNet at several densities, on random kernels.

    python demo/benchmark_steering.py [--device cpu] [--threads 2] [--height 352] [--width 1216]

Prints a table: measurements, median and best time without and with gradients; below it the time of
visiting the window of each pixel, measured on two rows and scaled to the whole image, and how far
the two results lie apart; on a GPU the peak memory.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from depth_completion_ros.networks.kernel_regression import kernel_matrices, regress

WINDOW, SMOOTHING = (26, 34), 5.0
STRIP_ROWS = 2


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--height", type=int, default=352)
    parser.add_argument("--width", type=int, default=1216)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    size = (arguments.height, arguments.width)
    kernels = random_kernels(*size).to(arguments.device)
    print(f"{'measured':>9} {'inference':>19} {'with gradients':>19}")
    for count in (500, 5_000, 20_000, size[0] * size[1] // 20):
        sparse = random_measurements(*size, count).to(arguments.device)
        with torch.no_grad():
            infer = times(lambda s=sparse: regress(s, kernels), arguments.repeats, sparse.device)
        train = times(lambda s=sparse: learn(s, kernels), 2, sparse.device)
        print(
            f"{count:9} {statistics.median(infer):8.3f} s {min(infer):6.3f} s"
            f" {statistics.median(train):8.3f} s {min(train):6.3f} s",
            flush=True,
        )
    seconds, apart = visited(random_measurements(*size, 20_000).to(arguments.device), kernels)
    print(f"windows of 20000: {seconds:.1f} s, {apart * 1e3:.3f} mm apart")
    if arguments.device != "cpu":
        print(f"peak memory {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB")


def random_kernels(height: int, width: int) -> Tensor:
    """Give kernels as a network with random weights would, of every shape it can make."""
    raw = torch.sigmoid(torch.randn(1, 3, height, width, generator=torch.manual_seed(0)))
    return (
        raw * torch.tensor([6, 2 * math.pi, 6])[:, None, None]
        - torch.tensor([0, math.pi, 0])[:, None, None]
    )


def random_measurements(height: int, width: int, count: int) -> Tensor:
    """Measure a smooth street at random pixels, as many as asked for."""
    chosen = torch.randperm(height * width, generator=torch.manual_seed(1))[:count]
    column = torch.linspace(0, 12, width).sin()
    street = torch.linspace(60, 4, height)[:, None] * (1 + 0.1 * column)
    sparse = torch.zeros(height * width)
    sparse[chosen] = street.flatten()[chosen]
    return sparse.view(1, 1, height, width)


def times(call: Callable[[], object], repeats: int, device: torch.device) -> list[float]:
    """Time calls in seconds, after one to warm up."""
    measured = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        measured.append(time.perf_counter() - start)
    return measured[1:]


def learn(sparse: Tensor, kernels: Tensor) -> None:
    """Differentiate once."""
    kernels = kernels.clone().requires_grad_()
    regress(sparse, kernels).sum().backward()


def visited(sparse: Tensor, kernels: Tensor) -> tuple[float, float]:
    """Interpolate a strip window by window.

    Returns:
        Seconds for the whole image by this measure, and metres that both forms lie apart.
    """
    height, width = sparse.shape[2:]
    top = height // 2
    rows = slice(top, top + STRIP_ROWS)
    start = time.perf_counter()
    strip = visit_windows(sparse, kernels, top)
    if sparse.is_cuda:
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) * height / STRIP_ROWS
    ours = regress(sparse, kernels, undetermined="pseudo_inverse")[0, 0, rows]
    inner = slice(WINDOW[1], width - WINDOW[1])  # without mirror images
    apart = (ours - strip)[:, inner][sparse[0, 0, rows, inner] == 0].abs().max()
    return seconds, float(apart)


def visit_windows(sparse: Tensor, kernels: Tensor, top: int) -> Tensor:
    """Add up the normal equations offset by offset, for `STRIP_ROWS` rows from `top` on."""
    c11, c12, c22 = kernel_matrices(*kernels[0].double(), "published")
    gamma = kernels[0, 2].double()
    depth = sparse[0, 0].double()
    width = depth.shape[1]
    maps = torch.stack((c11, c12, c22, gamma.abs() * (depth > 0), depth))
    maps = torch.nn.functional.pad(maps, (WINDOW[1], WINDOW[1]))
    matrix = depth.new_zeros(STRIP_ROWS, width, 6, 6)
    right = depth.new_zeros(STRIP_ROWS, width, 6)
    for a in range(-WINDOW[0], WINDOW[0] + 1):
        for b in range(-WINDOW[1], WINDOW[1] + 1):
            rows = slice(top + a, top + a + STRIP_ROWS)
            columns = slice(WINDOW[1] + b, WINDOW[1] + b + width)
            c11, c12, c22, scale, value = maps[:, rows, columns]
            q = a * a * c11 + 2 * a * b * c12 + b * b * c22
            weight = scale * torch.exp(2 * torch.tanh(q / (-2 * SMOOTHING**2)))
            x = depth.new_tensor([1, a, b, a * a, a * b, b * b])
            matrix += weight[..., None, None] * torch.outer(x, x)
            right += (weight * value)[..., None] * x
    inverse = torch.linalg.pinv(matrix, atol=1e-5, rtol=0, hermitian=True)
    return (inverse[..., 0, :] * right).sum(-1)


if __name__ == "__main__":
    main()
