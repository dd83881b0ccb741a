"""Losses on what a network makes beside its depth: CSPN++'s costs, KernelNet's bins.

Not here: those losses themselves, which belong to the networks. What they need is read from the
forward pass by hooks, so that every network keeps one signature.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..networks.network import NetworkOutput
from .recipe import LossSettings


class SideLosses:
    """Listen to the modules of a network that make something beside its depth."""

    def __init__(self, network: nn.Module, settings: LossSettings) -> None:
        """Find the modules that the settings ask for.

        Raises:
            InputError: the network has none.
        """
        self._network, self._settings = network, settings
        self._heard: dict[Any, Any] = {}
        self._handles: list[Any] = []
        if settings.cost or settings.budget:
            from ..networks.cspn_plus import CSPNRefinement

            self._listen("cost and budget", CSPNRefinement)
        if settings.bins:
            from ..networks.steering import RefinementUNet

            self._listen("bins", RefinementUNet)

    def loss(self, output: NetworkOutput, truth: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Add up what the last forward pass costs.

        Args:
            output: of the network.
            truth: (B, 1, H, W) metres, 0 = unknown.

        Returns:
            The weighted sum, and each part without its weight.
        """
        settings = self._settings
        total, parts = truth.new_zeros(()), {}
        for module, made in self._heard.items():
            if settings.bins and hasattr(made, "logits"):
                bins = self._bins(output, made, truth)
                total, parts["bins"] = total + settings.bins * bins, bins.detach()
            elif settings.cost or settings.budget:
                from ..networks.cspn_plus import budget_loss, expected_cost

                cost = expected_cost(made[1], module.steps)
                product = cost.kernel * cost.iteration
                budgets = (module.settings.kernel_budget, module.settings.iteration_budget)
                over = budget_loss(cost, *budgets)
                total = total + settings.cost * product + settings.budget * over
                parts["kernel_cost"] = cost.kernel.detach()
                parts["iteration_cost"] = cost.iteration.detach()
        self._heard.clear()
        return total, parts

    def close(self) -> None:
        """Stop listening."""
        for handle in self._handles:
            handle.remove()

    def _bins(self, output: NetworkOutput, residual: Any, truth: Tensor) -> Tensor:
        from ..networks.steering import Prediction

        predicted = Prediction(output.depth, output.stages[0], residual)
        network: Any = self._network
        loss: Tensor = network.loss(predicted, truth, l1_weight=self._settings.bins_l1)
        return loss

    def _listen(self, what: str, kind: type[nn.Module]) -> None:
        modules = [m for m in self._network.modules() if isinstance(m, kind)]
        if not modules or getattr(getattr(modules[0], "settings", None), "form", "") == "plain":
            msg = f"loss: {what} set, but {type(self._network).__name__} has nothing of the kind"
            raise InputError(msg)

        def hear(module: nn.Module, _: Any, made: Any) -> None:
            if torch.is_grad_enabled():
                self._heard[module] = made

        self._handles = [module.register_forward_hook(hear) for module in modules]
