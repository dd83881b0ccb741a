"""How the learning rate changes over a stage, as a function of the step alone.

Not here: what a step is (`loop.py`).
"""

from __future__ import annotations

import math

from .recipe import ScheduleSettings


def rate_factor(
    settings: ScheduleSettings, step: int, total_steps: int, steps_per_epoch: float
) -> float:
    """Give the factor on the learning rate for one step.

    Args:
        settings: which curve.
        step: of the stage, from 0.
        total_steps: of the stage.
        steps_per_epoch: of the stage; may be no whole number.

    Returns:
        From 0 to 1.
    """
    warm = settings.warm_up * total_steps
    if step < warm:
        return (step + 1) / (warm + 1)
    epoch = step / steps_per_epoch
    if settings.by_epoch:
        # In the middle of a step nothing is lost to rounding.
        epoch = math.floor((step + 0.5) / steps_per_epoch) + settings.ahead
    if settings.kind == "constant":
        return 1.0
    if settings.kind == "steps":
        passed = [change.factor for change in settings.steps if epoch >= change.epoch]
        return passed[-1] if passed else 1.0
    done = (epoch * steps_per_epoch - warm) / max(total_steps - warm, 1)
    falling = 0.5 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0)))
    return settings.final + (1 - settings.final) * falling
