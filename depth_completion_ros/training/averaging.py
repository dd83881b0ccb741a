"""Weights averaged over the steps, which generalise better than the last ones.

Source: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; the
exponential form as commonly used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class AveragedWeights:
    """An exponential moving average of all parameters and buffers of a network."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Start from the weights as they are; with decay 0 the average is the last weights."""
        self._network, self._decay = network, decay
        self._steps = 0
        self._average = {k: v.detach().clone() for k, v in network.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step; the first steps weigh more."""
        self._steps += 1
        decay = min(self._decay, self._steps / (self._steps + 9)) if self._decay else 0.0
        for name, value in self._network.state_dict().items():
            if value.is_floating_point():
                self._average[name].lerp_(value, 1 - decay)
            else:
                self._average[name].copy_(value)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the network have the averaged weights in a `with` block."""
        own = {k: v.detach().clone() for k, v in self._network.state_dict().items()}
        self._network.load_state_dict(self._average)
        try:
            yield
        finally:
            self._network.load_state_dict(own)

    def state(self) -> dict[str, Tensor | int]:
        """Give what a checkpoint needs."""
        return {"steps": self._steps, **{f"average.{k}": v for k, v in self._average.items()}}

    def load(self, state: Mapping[str, Tensor | int]) -> None:
        """Go on from a checkpoint."""
        self._steps = int(state["steps"])
        for name, value in self._average.items():
            saved = state[f"average.{name}"]
            assert isinstance(saved, Tensor)
            value.copy_(saved)
