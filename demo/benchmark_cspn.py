"""Time the resource aware CSPN++ against plain CSPN, 7x7 and 12 steps, in one run.

    python demo/benchmark_cspn.py [--height 352] [--width 1216] [--threads 1] [--device cpu]

Prints two tables of median times and peak memory. First at the published mean costs (kernel
0.268, iterations 0.439) the propagation alone, given raw affinities, and the whole refinement,
from features of 128 channels to depth, with its heads. Then the whole refinement by budgets, with
choices that want each kernel and number of steps equally often. Features are smooth noise, so
that neighbours choose alike, as in an image; --cell 1 makes each pixel choose by itself.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections import deque
from collections.abc import Callable

import torch
import torch.nn.functional as F
from benchmark_refinement import peak_memory
from torch import Tensor

from depth_completion_ros.networks.cspn_plus import (
    PLAIN_STEPS,
    CSPNPlusSettings,
    CSPNRefinement,
    Selection,
    choose,
)
from depth_completion_ros.networks.cspn_propagation import (
    KERNELS,
    affinity_of_maps,
    iterate,
    normalise,
    propagate_chosen,
)

CHANNELS = 128  # of the features of the published backbone
PUBLISHED_COST = (0.268, 0.439)  # mean kernel and iterations, of CSPN++'s table
BUDGETS = (1.0, 0.5, 0.35)

Call = Callable[[], object]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--height", type=int, default=352)
    parser.add_argument("--width", type=int, default=1216)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cell", type=int, default=8, help="pixels over which features vary")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    with torch.no_grad(), torch.device(arguments.device):
        scene = Scene(arguments.height, arguments.width, arguments.cell)
        plain = CSPNRefinement(CHANNELS, CSPNPlusSettings(form="plain")).eval()
        resource = CSPNRefinement(CHANNELS, CSPNPlusSettings(form="resource")).eval()

        scene.aim_at(resource, PUBLISHED_COST)
        print("mean cost of kernels {:.3f}, of iterations {:.3f}".format(*scene.cost(resource)))
        compare("propagation", propagations(scene, plain, resource), arguments.repeats)
        whole = {"plain": scene.run(plain), "resource": scene.run(resource)}
        compare("refinement", whole, arguments.repeats)

        scene.aim_at(resource, None)
        calls = {"plain": scene.run(plain)}
        for budget in BUDGETS:
            limits = {"kernel_budget": budget, "iteration_budget": budget}
            limited = CSPNRefinement(
                CHANNELS, dataclasses.replace(resource.settings, **limits)
            ).eval()
            limited.load_state_dict(resource.state_dict())
            calls[f"budget {budget}"] = scene.run(limited)
        compare("refinement", calls, arguments.repeats)


def propagations(scene: Scene, plain: CSPNRefinement, resource: CSPNRefinement) -> dict[str, Call]:
    """Bind raw affinities and choices that were made beforehand."""
    raw = plain.affinity_head(scene.features)
    kernels, steps = scene.choice(resource)

    def run_plain() -> Tensor:
        steps = iterate(scene.depth, normalise(raw), PLAIN_STEPS, scene.sparse)
        return deque(steps, maxlen=1).pop()  # the last one; none is kept

    def run_resource() -> Tensor:
        return propagate_chosen(scene.depth, scene.sparse, kernels, steps, affinity_of_maps(raw))

    return {"plain": run_plain, "resource": run_resource}


class Scene:
    """What a refinement is given."""

    def __init__(self, height: int, width: int, cell: int) -> None:
        """Make up depth, measurements on a twentieth of the pixels, and features."""
        self.depth = torch.rand(1, 1, height, width) * 80
        self.sparse = self.depth * (torch.rand(1, 1, height, width) < 0.05)
        cells = torch.randn(1, CHANNELS, -(-height // cell), -(-width // cell))
        self.features = F.interpolate(cells, size=(height, width), mode="nearest")

    def run(self, refinement: CSPNRefinement) -> Call:
        """Bind the inputs."""
        return lambda: refinement(self.depth, self.features, self.sparse)

    def choice(self, refinement: CSPNRefinement) -> tuple[Tensor, Tensor]:
        """Give sides of kernels and numbers of steps that a refinement chooses, (1, H, W)."""
        choice, _ = choose(Selection(*refinement.select(self.features)))
        sides = torch.tensor(KERNELS, dtype=torch.uint8)
        steps = torch.tensor(refinement.steps, dtype=torch.uint8)
        return sides[choice.kernel], steps[choice.iteration]

    def cost(self, refinement: CSPNRefinement) -> tuple[float, float]:
        """Give the mean costs of what a refinement chooses."""
        sides, steps = self.choice(refinement)
        return (sides.float() ** 2).mean().item() / 49, steps.float().mean().item() / 12

    def aim_at(self, refinement: CSPNRefinement, cost: tuple[float, float] | None) -> None:
        """Make a refinement choose with these mean costs; None: everything equally often."""
        for axis, head in enumerate((refinement.kernel_head, refinement.iteration_head)):
            torch.nn.init.normal_(head.weight, std=0.1)
            options = len(refinement.steps) if axis else len(KERNELS)
            slope = torch.linspace(0, 1, options).repeat(head.out_channels // options)
            low, high = -8.0, 8.0
            for _ in range(12):
                bias = (low + high) / 2 if cost else 0.0
                head.bias.copy_(bias * slope)
                if cost and self.cost(refinement)[axis] > cost[axis]:
                    high = bias
                else:
                    low = bias


def compare(name: str, calls: dict[str, Call], repeats: int) -> None:
    """Print times and peak memory, and their ratios to the first call."""
    times: dict[str, list[float]] = {key: [] for key in calls}
    for call in calls.values():
        call()
    # Alternating, so that a busy machine slows down all.
    for _ in range(repeats):
        for key, call in calls.items():
            synchronise()
            start = time.perf_counter()
            call()
            synchronise()
            times[key].append(time.perf_counter() - start)
    memory = {key: peak(call) for key, call in calls.items()}
    first = next(iter(calls))
    print(f"{name:26} {'median':>11} {'peak':>9} {'faster':>8} {'memory':>8}")
    for key, measured in times.items():
        median = statistics.median(measured)
        ratio = statistics.median(a / b for a, b in zip(times[first], measured, strict=True))
        print(
            f"  {key:24} {median * 1e3:8.1f} ms {memory[key] / 1e6:6.1f} MB "
            f"{ratio:7.2f}x {memory[key] / memory[first]:7.2f}x"
        )


def synchronise() -> None:
    """Wait for the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak(call: Call) -> int:
    """Count the bytes that a call has allocated at once, beside its inputs."""
    if torch.get_default_device().type != "cuda":
        return peak_memory(call)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return torch.cuda.max_memory_allocated() - before


if __name__ == "__main__":
    main()
