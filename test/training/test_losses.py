from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from depth_completion_ros.errors import InputError
from depth_completion_ros.networks.network import NetworkOutput
from depth_completion_ros.training.losses import (
    distillation_loss,
    laplace_likelihood,
    output_weights,
    pixel_errors,
    supervised_loss,
)
from depth_completion_ros.training.recipe import (
    DistillationSettings,
    LossSettings,
    SupervisionPhase,
)

ONE = torch.ones(1)


def a_map(*values: float) -> Tensor:
    return torch.tensor(values).view(1, 1, 1, -1)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (LossSettings(l1=1, l2=0), (1 + 3) / 2),
        (LossSettings(l1=0, l2=1), (1 + 9) / 2),
        (LossSettings(l1=0.5, l2=0.5), 3.5),
        (LossSettings(l1=0, l2=0, relative=1), (1 / 10 + 3 / 20) / 2),
        (LossSettings(l1=1, l2=0, l1_limit=2), (1 + 2) / 2),
        # e² within 2 m, then 2 * 2 * 3 - 2².
        (LossSettings(l1=0, l2=1, l2_limit=2), (1 + 8) / 2),
    ],
)
def test_errors_count_where_there_is_truth(settings, expected):
    truth = a_map(10, 0, 20)
    output = NetworkOutput(a_map(11, 999, 17))
    assert float(supervised_loss(output, truth, ONE, settings).total) == pytest.approx(expected)


def test_samples_weigh_what_they_are_given():
    truth = torch.tensor([1.0, 1.0]).view(2, 1, 1, 1)
    output = NetworkOutput(torch.tensor([2.0, 4.0]).view(2, 1, 1, 1))
    weight = torch.tensor([1.0, 0.5])
    loss = supervised_loss(output, truth, weight, LossSettings(l1=1, l2=0))
    assert float(loss.total) == pytest.approx((1 * 1 + 0.5 * 3) / 2)


def test_lrru_weighs_its_four_updates():
    assert output_weights(3, LossSettings(gamma=0.8), 0) == pytest.approx([0.512, 0.64, 0.8, 1])


def test_phases_end_with_their_epoch():
    settings = LossSettings(
        phases=(
            SupervisionPhase(until=2, final=0.6, stages=(0.2, 0.2)),
            SupervisionPhase(until=4, final=0.9, stages=(0.05, 0.05)),
        )
    )
    assert list(output_weights(2, settings, 1.99)) == [0.2, 0.2, 0.6]
    assert list(output_weights(2, settings, 2.0)) == [0.05, 0.05, 0.9]
    assert list(output_weights(2, settings, 4.0)) == [0.0, 0.0, 1.0]
    with pytest.raises(InputError, match="weights of 2 earlier estimates, expected 3"):
        output_weights(3, settings, 0)


def test_earlier_estimates_count_by_their_weight():
    output = NetworkOutput(a_map(11), None, (a_map(14), a_map(12)))
    settings = LossSettings(l1=1, l2=0, gamma=0.5)
    loss = supervised_loss(output, a_map(10), ONE, settings)
    assert float(loss.total) == pytest.approx(0.25 * 4 + 0.5 * 2 + 1)


def test_the_likelihood_is_least_where_sigma_is_the_error():
    sigma = torch.linspace(0.5, 6, 56).view(1, 1, 1, -1)
    depth = torch.full_like(sigma, 12.0)
    values = laplace_likelihood(depth, sigma, torch.full_like(sigma, 10.0))
    # For Laplace the best deviation is sqrt(2) times the absolute error.
    assert float(sigma.flatten()[values.argmin()]) == pytest.approx(2 * math.sqrt(2), abs=0.1)


def test_the_likelihood_teaches_sigma_and_not_the_depth():
    depth = a_map(12.0).requires_grad_()
    share = a_map(0.1).requires_grad_()
    laplace_likelihood(depth, depth * share, a_map(10.0)).sum().backward()
    assert float(depth.grad) == pytest.approx(0, abs=1e-6)
    assert float(share.grad) < 0  # 1.2 m is too sure for an error of 2 m


def test_no_pixel_with_truth_is_no_loss():
    loss = supervised_loss(NetworkOutput(a_map(5.0)), a_map(0.0), ONE, LossSettings())
    assert float(loss.total) == 0


def test_errors_have_the_published_gradient():
    depth = a_map(13.0).requires_grad_()
    pixel_errors(depth, a_map(10.0), LossSettings(l1=0, l2=1, l2_limit=2)).sum().backward()
    assert float(depth.grad) == 4  # 2 * limit beyond it


def test_a_constant_offset_costs_depth_and_no_gradient():
    teacher = torch.arange(12.0).view(1, 1, 3, 4) + 1
    settings = DistillationSettings(depth=0.25, gradient=0.5)
    loss = distillation_loss(teacher + 2, teacher, settings)
    assert float(loss.parts["teacher_depth"]) == 4
    assert float(loss.parts["teacher_gradient"]) == 0
    assert float(loss.total) == 1


def test_a_slope_costs_gradient():
    teacher = torch.ones(1, 1, 2, 3)
    student = teacher + torch.tensor([0.0, 3.0, 6.0])
    loss = distillation_loss(student, teacher, DistillationSettings())
    assert float(loss.parts["teacher_gradient"]) == 9  # along rows; 0 down the columns


def test_what_the_teacher_leaves_out_costs_nothing():
    teacher = a_map(5, 0, 5)
    loss = distillation_loss(a_map(5, 77, 5), teacher, DistillationSettings())
    assert float(loss.total) == 0
