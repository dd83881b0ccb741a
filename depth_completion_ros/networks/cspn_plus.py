"""CSPN++ as its authors describe it, and plain CSPN: a refinement for any backbone.

Not here: the propagation itself (`cspn_propagation.py`), the backbone it was published on
(`cspn_backbone.py`), PENet's dilated form (`penet.py`).

References:
    Cheng et al., CSPN++: Learning Context and Resource Aware Convolutional Spatial Propagation
    Networks for Depth Completion, AAAI 2020, arXiv 1911.05377.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..settings import setting
from .cspn_backbone import SparseToDense, SparseToDenseSettings
from .cspn_propagation import (
    BLOCK,
    KERNELS,
    AffinityOf,
    affinity_of_maps,
    iterate,
    normalise,
    propagate_chosen,
    propagate_weighted,
    received,
)
from .network import Backbone, DepthNetwork, NetworkOutput

# Costs are relative to plain CSPN with this kernel and so many steps.
PLAIN_KERNEL, PLAIN_STEPS = 7, 12


@dataclass(frozen=True)
class CSPNPlusSettings(SparseToDenseSettings):
    """Choose the form of CSPN++ or CSPN."""

    form: str = setting(
        "context",
        choices=("plain", "context", "resource"),
        help="plain: CSPN, the same steps everywhere; context: results of all kernels and "
        "iterations are mixed per pixel; resource: each pixel takes one of them.",
    )
    kernel: int = setting(PLAIN_KERNEL, range=(3, 7), help="Side of the kernel, form plain.")
    steps: int = setting(PLAIN_STEPS, range=(1, 255), help="Number of steps, form plain.")
    iterations: tuple[float, ...] = setting(
        (3.0, 6.0, 9.0, 12.0),
        help="Numbers of steps to mix or choose from, increasing; forms context and resource.",
    )
    affinity_at: str = setting(
        "target",
        choices=("target", "source"),
        help="Pixel that an affinity is stored at: the one that fetches, or, as in the "
        "published code of CSPN, the one it fetches from.",
    )
    replace_with: str = setting(
        "measurement",
        choices=("measurement", "h0"),
        help="What is put back at measured pixels, form plain; h0, the depth before the first "
        "step, as in the published code of CSPN.",
    )
    kernel_budget: float = setting(
        1.0, range=(0.0, 1.0), help="Allowed mean cost of the kernels, 1 is 7x7; form resource."
    )
    iteration_budget: float = setting(
        1.0, range=(0.0, 1.0), help="Allowed mean cost of the steps, 1 is 12; form resource."
    )

    def __post_init__(self) -> None:
        """Refuse kernels without a centre and numbers of steps out of order."""
        super().__post_init__()
        if self.kernel not in KERNELS:
            msg = f"kernel: found {self.kernel}, expected 3, 5 or 7"
            raise InputError(msg)
        steps = self.iterations
        increasing = all(a < b for a, b in itertools.pairwise(steps))
        if not steps or not increasing or any(t not in range(1, 256) for t in steps):
            found = ", ".join(f"{t:g}" for t in steps)
            msg = f"iterations: found [{found}], expected increasing whole numbers from 1 to 255"
            raise InputError(msg)


class Selection(NamedTuple):
    """Hold how much each pixel wants each kernel and number of steps.

    Attributes:
        kernels: (B, 3, H, W), α of the kernels 3, 5, 7; they sum to 1.
        iterations: (B, 3, T, H, W), λ of the numbers of steps for each kernel; sum to 1 over T.
    """

    kernels: Tensor
    iterations: Tensor


class Choice(NamedTuple):
    """Hold which kernel and number of steps each pixel takes, as (B, H, W) integer indices."""

    kernel: Tensor
    iteration: Tensor


class Cost(NamedTuple):
    """Hold mean costs relative to plain CSPN, scalars: of the kernels and of the steps."""

    kernel: Tensor
    iteration: Tensor


class CSPNPlus(DepthNetwork):
    """Propagate a backbone's depth between neighbours, by one shared 7x7 affinity."""

    def __init__(
        self, settings: CSPNPlusSettings = CSPNPlusSettings(), backbone: Backbone | None = None
    ) -> None:
        """Put the refinement on a backbone; without one on the ResNet-34, as published."""
        super().__init__()
        self.settings = settings
        self.backbone = backbone or SparseToDense(settings)
        self.multiple = self.backbone.multiple
        self.refinement = CSPNRefinement(self.backbone.feature_channels[0], settings)

    @property
    def inputs(self) -> tuple[str, ...]:
        """See `DepthNetwork`."""
        return self.backbone.inputs

    def complete(
        self,
        image: Tensor | None,
        sparse: Tensor,
        rays: Tensor | None,
        prefilled: Tensor | None,
    ) -> NetworkOutput:
        """Predict a coarse depth and propagate it; see `DepthNetwork`."""
        return self.complete_and_select(image, sparse, rays)[0]

    def complete_and_select(
        self, image: Tensor | None, sparse: Tensor, rays: Tensor | None = None
    ) -> tuple[NetworkOutput, Selection | None]:
        """Do what `complete` does, and tell what the loss of training needs.

        Args:
            image, sparse, rays: as for `forward`; their size is a multiple of `multiple`.

        Returns:
            The prediction and, but for the form plain, the selection.
        """
        coarse = self.backbone.encode(image, sparse, rays)
        depth, selection = self.refinement(coarse.depth, coarse.features[0], sparse)
        return NetworkOutput(depth, None, (*coarse.stages, coarse.depth)), selection


class CSPNRefinement(nn.Module):
    """Predict affinities and choices from features, pixel by pixel, and propagate.

    All heads are 1x1 convolutions, as the depth head of the published backbone: what a pixel
    does not use is not computed.
    """

    def __init__(self, channels: int, settings: CSPNPlusSettings = CSPNPlusSettings()) -> None:
        """Build the heads that a form needs.

        Args:
            channels: of the features, at full size.
            settings: those of the backbone are ignored.
        """
        super().__init__()
        self.settings = settings
        self.steps = tuple(int(t) for t in settings.iterations)
        plain = settings.form == "plain"
        largest = settings.kernel if plain else KERNELS[-1]
        self.affinity_head = nn.Conv2d(channels, largest**2 - 1, 1)
        if not plain:
            self.kernel_head = nn.Conv2d(channels, len(KERNELS), 1)
            self.iteration_head = nn.Conv2d(channels, len(KERNELS) * len(self.steps), 1)
        if settings.form == "context":
            self.guide_head = nn.Conv2d(channels, 1, 1)

    def forward(
        self, depth: Tensor, features: Tensor, sparse: Tensor
    ) -> tuple[Tensor, Selection | None]:
        """Refine depth.

        Args:
            depth: (B, 1, H, W) metres.
            features: (B, C, H, W).
            sparse: (B, 1, H, W) metres, 0 = none.

        Returns:
            (B, 1, H, W) metres, and the selection, None with the form plain.
        """
        if self.settings.form == "plain":
            return self._propagate_plain(depth, features, sparse), None
        selection = self.select(features)
        if self.settings.form == "context":
            guide = torch.sigmoid(self.guide_head(features))
            raw = self._raw(features)
            return assemble(depth, raw, sparse, selection, self.steps, guide), selection
        return self._propagate_resource(depth, features, sparse, selection), selection

    def select(self, features: Tensor) -> Selection:
        """Predict α and λ: sigmoids, divided by their sum."""
        batch, _, height, width = features.shape
        kernels = torch.sigmoid(self.kernel_head(features))
        shape = (batch, len(KERNELS), len(self.steps), height, width)
        iterations = torch.sigmoid(self.iteration_head(features)).view(shape)
        return Selection(_shares(kernels, 1), _shares(iterations, 2))

    def _raw(self, features: Tensor) -> Tensor:
        raw: Tensor = self.affinity_head(features)
        return received(raw) if self.settings.affinity_at == "source" else raw

    def _propagate_plain(self, depth: Tensor, features: Tensor, sparse: Tensor) -> Tensor:
        back = depth if self.settings.replace_with == "h0" else sparse
        affinity = normalise(self._raw(features))
        *_, last = iterate(depth, affinity, self.settings.steps, sparse, back=back)
        return last

    def _propagate_resource(
        self, depth: Tensor, features: Tensor, sparse: Tensor, selection: Selection
    ) -> Tensor:
        choice, confidence = choose(selection)
        if self.training:
            weights = straight_through(selection, choice)
            return propagate_weighted(depth, self._raw(features), sparse, *weights, self.steps)
        budgets = (self.settings.kernel_budget, self.settings.iteration_budget)
        choice = keep_budgets(choice, confidence, self.steps, *budgets)
        if torch.is_grad_enabled() or _is_exporting():
            # A graph of fixed shapes can skip nothing.
            weights = one_hot(choice, len(self.steps), depth.dtype)
            return propagate_weighted(depth, self._raw(features), sparse, *weights, self.steps)
        sides = torch.tensor(KERNELS, dtype=torch.uint8, device=depth.device)
        steps = torch.tensor(self.steps, dtype=torch.uint8, device=depth.device)
        return propagate_chosen(
            depth,
            sparse,
            sides[choice.kernel],
            steps[choice.iteration],
            self._affinity_of(features),
        )

    def _affinity_of(self, features: Tensor) -> AffinityOf:
        """Give affinities of single pixels without computing those of others."""
        if self.settings.affinity_at == "source":
            return affinity_of_maps(self._raw(features))
        head = self.affinity_head
        assert head.bias is not None
        all_weights, all_biases = head.weight, head.bias

        def affinity_of(image: int, count: int, pixels: Tensor | None) -> Tensor:
            weight, bias = all_weights[:count], all_biases[:count]
            if pixels is None:
                return F.conv2d(features[image : image + 1], weight, bias)[0]
            maps, columns = features[image].flatten(1), weight.flatten(1).t()
            result = maps.new_empty(len(pixels), count)
            for rows, part in zip(
                torch.split(result, BLOCK), torch.split(pixels, BLOCK), strict=True
            ):
                torch.addmm(bias, maps.index_select(1, part).t(), columns, out=rows)
            return result

        return affinity_of


def assemble(
    start: Tensor,
    raw: Tensor,
    sparse: Tensor,
    selection: Selection,
    steps: Sequence[int],
    guide: Tensor,
) -> Tensor:
    """Mix what all kernels make in all sampled iterations: `Σ_k α_k Σ_t λ_{k,t}·h_{k,t}`.

    Args:
        start: (B, 1, H, W) metres, h_0.
        raw: (B, 48, H, W); see `cspn_propagation.Affinity`; a kernel uses its inner window.
        sparse: (B, 1, H, W) metres, 0 = none.
        selection: α and λ.
        steps: T numbers of steps, increasing.
        guide: (B, 1, H, W) in [0, 1], trust in the measurements.

    Returns:
        (B, 1, H, W) metres.
    """
    total = torch.zeros_like(start)
    for k, kernel in enumerate(KERNELS):
        mixed = torch.zeros_like(start)
        affinity = normalise(raw[:, : kernel**2 - 1])
        for step, h in enumerate(iterate(start, affinity, steps[-1], sparse, guide), 1):
            if step in steps:
                t = steps.index(step)
                mixed = mixed + selection.iterations[:, k, t : t + 1] * h
        total = total + selection.kernels[:, k : k + 1] * mixed
    return total


def choose(selection: Selection) -> tuple[Choice, Tensor]:
    """Take what each pixel wants most: the kernel, then the number of steps for it.

    Returns:
        The choice, and (B, H, W), the product of its α and λ.
    """
    alpha, kernel = selection.kernels.max(1)
    iterations = _of_kernel(selection.iterations, kernel)
    lambda_, iteration = iterations.max(1)
    return Choice(kernel, iteration), alpha * lambda_


def one_hot(choice: Choice, iterations: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Turn a choice into weights (B, 3, H, W) of kernels and (B, T, H, W) of steps."""
    kernels = F.one_hot(choice.kernel, len(KERNELS)).movedim(3, 1).to(dtype)
    return kernels, F.one_hot(choice.iteration, iterations).movedim(3, 1).to(dtype)


def straight_through(selection: Selection, choice: Choice) -> tuple[Tensor, Tensor]:
    """Turn a choice into weights as `one_hot` does, with the gradient of the selection."""
    iterations = selection.iterations.shape[2]
    kernels, steps = one_hot(choice, iterations, selection.kernels.dtype)
    # The difference is 0, exactly, and has the gradient.
    kernels = kernels + (selection.kernels - selection.kernels.detach())
    wanted = _of_kernel(selection.iterations, choice.kernel)
    return kernels, steps + (wanted - wanted.detach())


def keep_budgets(
    choice: Choice,
    confidence: Tensor,
    steps: Sequence[int],
    kernel_budget: float,
    iteration_budget: float,
) -> Choice:
    """Make the mean costs of each image stay within the budgets.

    While a mean is over its budget, pixels over it, the least sure first, give way: of the
    configurations that satisfy both budgets they take the one on the Pareto front with most
    iterations, but never more than they had. The two costs are independent, so the front is one
    point: the largest kernel and the most steps within the budgets; the smallest if none is.

    Args:
        choice: what the pixels want.
        confidence: (B, H, W), how sure they are.
        steps: T numbers of steps, increasing.
        kernel_budget, iteration_budget: see `CSPNPlusSettings`.

    Returns:
        What the pixels get.
    """
    kernel_costs = [kernel**2 / PLAIN_KERNEL**2 for kernel in KERNELS]
    iteration_costs = [step / PLAIN_STEPS for step in steps]
    costs = (kernel_costs, iteration_costs)
    budgets = (kernel_budget, iteration_budget)
    best = [_largest_within(c, budget) for c, budget in zip(costs, budgets, strict=True)]
    for axis in (0, 1):
        if costs[axis][-1] <= budgets[axis]:
            continue  # no pixel can be over it
        wanted = choice[axis]
        cost = torch.tensor(costs[axis], dtype=torch.float64, device=wanted.device)
        saved = cost[wanted] - cost[wanted.clamp_max(best[axis])]
        gives_way = _least_sure(saved, cost[wanted], confidence, budgets[axis])
        limited = (
            torch.where(gives_way, c.clamp_max(b), c) for c, b in zip(choice, best, strict=True)
        )
        choice = Choice(*limited)
    return choice


def _largest_within(costs: Sequence[float], budget: float) -> int:
    return max(sum(cost <= budget for cost in costs) - 1, 0)


def _least_sure(saved: Tensor, cost: Tensor, confidence: Tensor, budget: float) -> Tensor:
    """Mark pixels (B, H, W), as few as bring the mean cost of each image within a budget."""
    excess = cost.flatten(1).sum(1, keepdim=True) - budget * cost[0].numel()
    # Pixels that save nothing come last.
    order = torch.where(saved > 0, confidence, torch.inf).flatten(1).argsort(1)
    saved_before = saved.flatten(1).gather(1, order).cumsum(1)
    saved_before = F.pad(saved_before, (1, -1))
    marked = (saved_before < excess) & (saved.flatten(1).gather(1, order) > 0)
    return torch.zeros_like(marked).scatter(1, order, marked).view(saved.shape)


def expected_cost(selection: Selection, steps: Sequence[int]) -> Cost:
    """Compute the mean costs with α and λ as probabilities.

    `E_k = mean(Σ_k α_k·k²) / 49`, `E_t = mean(Σ_k α_k Σ_t λ_{k,t}·t) / 12`.

    Args:
        selection: α and λ.
        steps: T numbers of steps.
    """
    kernels, iterations = selection
    sides = torch.tensor(KERNELS, dtype=kernels.dtype, device=kernels.device)
    taken = torch.tensor(steps, dtype=kernels.dtype, device=kernels.device)
    kernel = (kernels * sides.square().view(1, -1, 1, 1)).sum(1).mean() / PLAIN_KERNEL**2
    per_kernel = (iterations * taken.view(1, 1, -1, 1, 1)).sum(2)
    return Cost(kernel, (kernels * per_kernel).sum(1).mean() / PLAIN_STEPS)


def context_loss(
    depth: Tensor, truth: Tensor, cost: Cost | None = None, *, cost_weight: float = 0.1
) -> Tensor:
    """Compute the loss of training; the published weight decay, 5e-4, is the optimiser's.

    Args:
        depth: (B, 1, H, W) metres.
        truth: (B, 1, H, W) metres, 0 = unknown.
        cost: adds `cost_weight · E_k · E_t`.
        cost_weight: as published.

    Returns:
        Scalar, square metres.
    """
    known = truth > 0
    loss = torch.where(known, depth - truth, 0).square().sum() / known.sum().clamp_min(1)
    return loss if cost is None else loss + cost_weight * cost.kernel * cost.iteration


def budget_loss(
    cost: Cost,
    kernel_budget: float,
    iteration_budget: float,
    *,
    kernel_weight: float = 1.0,
    iteration_weight: float = 1.0,
) -> Tensor:
    """Penalise costs over their budgets: `μ_k·max(0, E_k - C_k) + μ_t·max(0, E_t - C_t)`.

    Args:
        cost: expected costs.
        kernel_budget, iteration_budget: C_k and C_t, relative to plain CSPN.
        kernel_weight, iteration_weight: μ_k and μ_t, which the source does not tell.
    """
    over_kernel = torch.relu(cost.kernel - kernel_budget)
    over_iteration = torch.relu(cost.iteration - iteration_budget)
    return kernel_weight * over_kernel + iteration_weight * over_iteration


def _shares(x: Tensor, dim: int) -> Tensor:
    return x / x.sum(dim, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)


def _of_kernel(iterations: Tensor, kernel: Tensor) -> Tensor:
    """Pick λ of one kernel per pixel: (B, 3, T, H, W) and (B, H, W) to (B, T, H, W)."""
    index = kernel[:, None, None].expand(-1, 1, iterations.shape[2], -1, -1)
    return iterations.gather(1, index)[:, 0]


def _is_exporting() -> bool:
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()
