"""What training minimises: errors on pixels with truth, sigma's likelihood, a teacher's depth.

Not here: which estimates a network makes (`networks/network.py`) and the teacher's predictions
(`distillation.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..networks.network import NetworkOutput
from .recipe import DistillationSettings, LossSettings, SupervisionPhase

# Adds up a number over all processes and divides it by how many there are.
Share = Callable[[Tensor], Tensor]


class Loss(NamedTuple):
    """Hold a loss and what it is made of, scalars each."""

    total: Tensor
    parts: dict[str, Tensor]


def supervised_loss(
    output: NetworkOutput,
    truth: Tensor,
    weight: Tensor,
    settings: LossSettings,
    *,
    epoch: float = 0.0,
    share: Share = lambda count: count,
) -> Loss:
    """Compare a prediction, and the estimates before it, with the truth.

    Args:
        output: of the network, in metres.
        truth: (B, 1, H, W) metres, 0 = unknown.
        weight: (B,) or (B, 1, 1, 1) weight of each sample.
        settings: weights of the terms.
        epoch: decides which of `settings.phases` holds.
        share: gives this process's part of the number of all pixels with truth.

    Returns:
        The weighted sum, and each part without its weight.

    Raises:
        InputError: the phase weighs another number of estimates than the network makes.
    """
    valid = (truth > 0).to(truth.dtype)
    count = share(valid.sum()).clamp(min=1)
    pixels = valid * weight.view(-1, 1, 1, 1)
    total = truth.new_zeros(())
    for estimate, factor in zip(
        (*output.stages, output.depth),
        output_weights(len(output.stages), settings, epoch),
        strict=True,
    ):
        if factor > 0:
            values = pixel_errors(estimate.float(), truth, settings)
            total = total + factor * (values * pixels).sum() / count
    parts = {"depth": total.detach()}
    if settings.likelihood and output.sigma is not None:
        values = laplace_likelihood(output.depth.float(), output.sigma.float(), truth)
        likelihood = (values * pixels).sum() / count
        parts["likelihood"] = likelihood.detach()
        total = total + settings.likelihood * likelihood
    return Loss(total, parts)


def output_weights(stages: int, settings: LossSettings, epoch: float) -> Sequence[float]:
    """Weigh the earlier estimates and the result, in this order.

    With `gamma` the estimate t of T weighs gamma^(T - t), as in LRRU. Else the phase of the epoch
    says, and without phases the result counts alone.

    Raises:
        InputError: the phase names more or fewer estimates than there are.
    """
    if settings.gamma:
        return [settings.gamma ** (stages - t) for t in range(stages + 1)]
    phase = next((p for p in settings.phases if epoch < p.until), SupervisionPhase())
    if phase.stages and len(phase.stages) != stages:
        msg = (
            f"loss.phases: found weights of {len(phase.stages)} earlier estimates, expected "
            f"{stages}, as many as the network makes"
        )
        raise InputError(msg)
    return [*(phase.stages or (0.0,) * stages), phase.final]


def pixel_errors(depth: Tensor, truth: Tensor, settings: LossSettings) -> Tensor:
    """Weigh the errors of single pixels; what has no truth gives something to be masked.

    Args:
        depth, truth: (B, 1, H, W) metres.
        settings: weights and limits.

    Returns:
        (B, 1, H, W): l1 * abs(e) + l2 * e² + relative * abs(e) / truth, each within its limit:
        the square goes on linearly beyond `l2_limit`, with the same slope.
    """
    error = (depth - truth).abs()
    total = torch.zeros_like(error)
    if settings.l1:
        limit = settings.l1_limit or math.inf
        total = total + settings.l1 * error.clamp(max=limit)
    if settings.l2:
        total = total + settings.l2 * _square(error, settings.l2_limit)
    if settings.relative:
        share = error / truth.clamp(min=0.1)
        total = total + settings.relative * share.clamp(max=1)
    return total


def laplace_likelihood(depth: Tensor, sigma: Tensor, truth: Tensor) -> Tensor:
    """Tell how unlikely the errors are for Laplace's distribution of that sigma.

    Args:
        depth, sigma, truth: (B, 1, H, W) metres. The depth learns nothing from this term, even
            where sigma is a share of it.

    Returns:
        (B, 1, H, W) negative logarithm, up to a constant.
    """
    positive = depth.clamp(min=1e-3)
    logarithm = (
        torch.log(sigma.clamp(min=1e-4)) - torch.log(positive) + torch.log(positive).detach()
    )
    error = (depth.detach() - truth).abs()
    return logarithm + math.sqrt(2) * error * torch.exp(-logarithm)


def distillation_loss(
    depth: Tensor,
    teacher: Tensor,
    settings: DistillationSettings,
    *,
    share: Share = lambda count: count,
) -> Loss:
    """Compare a prediction with a teacher's, in depth and in depth gradient, over all pixels.

    Args:
        depth: (B, 1, H, W) metres.
        teacher: (B, 1, H, W) metres, 0 where it says nothing.
        settings: shares of the two terms.
        share: as for `supervised_loss`.

    Returns:
        The weighted sum, and each part without its weight.

    Source: black-box distillation of CDSPN, METHODS 5: MSE of depth and of its gradient.
    """
    known = (teacher > 0).to(depth.dtype)
    count = share(known.sum()).clamp(min=1)
    error = depth - teacher
    in_depth = (error.square() * known).sum() / count
    in_gradient = depth.new_zeros(())
    for axis in (2, 3):
        # The difference of two gradients is the gradient of the difference.
        steps = error.diff(dim=axis)
        both = known.narrow(axis, 1, steps.shape[axis]) * known.narrow(axis, 0, steps.shape[axis])
        pairs = share(both.sum()).clamp(min=1)
        in_gradient = in_gradient + (steps.square() * both).sum() / pairs
    return Loss(
        settings.depth * in_depth + settings.gradient * in_gradient,
        {"teacher_depth": in_depth.detach(), "teacher_gradient": in_gradient.detach()},
    )


def _square(error: Tensor, limit: float) -> Tensor:
    if not limit:
        return error.square()
    # Twice Huber's loss: e² within the limit, then 2 * limit * e - limit².
    return 2 * F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=limit)
