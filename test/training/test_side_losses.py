from __future__ import annotations

import pytest
import torch

from depth_completion_ros.errors import InputError
from depth_completion_ros.networks.registry import build_network
from depth_completion_ros.training.recipe import LossSettings
from depth_completion_ros.training.side_losses import SideLosses


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    image = torch.randint(0, 256, (1, 3, 32, 48)).float()
    truth = torch.rand(1, 1, 32, 48) * 5 + 2
    sparse = torch.where(torch.rand(1, 1, 32, 48) < 0.2, truth, 0)
    return image, sparse, truth


def test_costs_of_cspn_plus_are_counted_and_trained():
    network = build_network("cspn++", width=0.0625, form="context")
    image, sparse, truth = batch()
    side = SideLosses(network, LossSettings(cost=0.1))
    loss, parts = side.loss(network(image, sparse), truth)
    product = parts["kernel_cost"] * parts["iteration_cost"]
    assert float(loss.detach()) == pytest.approx(0.1 * float(product))
    # Costs are shares of plain CSPN's: between 3x3 with 3 steps and 7x7 with 12.
    assert 9 / 49 < float(parts["kernel_cost"]) < 1
    assert 3 / 12 < float(parts["iteration_cost"]) < 1
    loss.backward()
    assert network.refinement.kernel_head.weight.grad.abs().sum() > 0


def test_a_budget_costs_only_what_is_over_it():
    image, sparse, truth = batch()
    settings = {"width": 0.0625, "form": "resource"}
    for budget in (1.0, 0.2):
        network = build_network("cspn++", **settings, kernel_budget=budget, iteration_budget=1.0)
        side = SideLosses(network, LossSettings(budget=2.0))
        loss, parts = side.loss(network(image, sparse), truth)
        over = max(0.0, float(parts["kernel_cost"]) - budget)
        assert float(loss.detach()) == pytest.approx(2 * over, abs=1e-6)


def test_bins_of_kernelnet_train_both_networks():
    settings = {"width": 0.03125, "window_rows": 6, "window_columns": 6}
    network = build_network("steering", **settings)
    image, sparse, truth = batch()
    side = SideLosses(network, LossSettings(l1=0, l2=0, bins=1.0))
    loss, parts = side.loss(network(image, sparse), truth)
    assert float(loss.detach()) == float(parts["bins"])
    loss.backward()
    for part in (network.kernel_net, network.refiner):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())


def test_a_network_without_such_outputs_is_refused():
    for settings in (LossSettings(cost=0.1), LossSettings(bins=1.0)):
        with pytest.raises(InputError, match="MSGCHN has nothing of the kind"):
            SideLosses(build_network("msg_chn", channels=4), settings)


def test_nothing_is_heard_after_closing():
    network = build_network("cspn++", width=0.0625)
    image, sparse, truth = batch()
    side = SideLosses(network, LossSettings(cost=0.1))
    side.close()
    loss, parts = side.loss(network(image, sparse), truth)
    assert float(loss) == 0
    assert parts == {}
