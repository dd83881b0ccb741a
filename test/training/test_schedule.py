from __future__ import annotations

import pytest

from depth_completion_ros.training.recipe import RateStep, ScheduleSettings
from depth_completion_ros.training.schedule import rate_factor


def test_the_cosine_rises_to_1_and_falls_to_0():
    settings = ScheduleSettings(kind="cosine", warm_up=0.1)
    factors = [rate_factor(settings, step, 100, 10) for step in range(101)]
    assert factors[0] == pytest.approx(1 / 11)
    assert factors[9] == pytest.approx(10 / 11)
    assert factors[10] == 1.0
    assert factors[55] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0.0)


def test_redc_steps_ahead_of_its_epochs():
    # 30 epochs of 10 steps: the first is below the rate already, the last at 0.
    settings = ScheduleSettings(kind="cosine", by_epoch=True, ahead=1)
    factors = [rate_factor(settings, step, 300, 10) for step in range(300)]
    assert len(set(factors[:10])) == 1
    assert factors[0] == pytest.approx(0.99726, abs=1e-5)
    assert factors[10] < factors[9]
    assert factors[290] == pytest.approx(0.0)


def test_steps_hold_until_the_next():
    steps = (RateStep(epoch=10, factor=0.5), RateStep(epoch=15, factor=0.1))
    settings = ScheduleSettings(kind="steps", by_epoch=True, steps=steps)
    assert [rate_factor(settings, 4 * e, 100, 4) for e in (0, 9, 10, 14, 15, 24)] == [
        1.0, 1.0, 0.5, 0.5, 0.1, 0.1,
    ]  # fmt: skip


def test_a_fraction_of_steps_per_epoch_changes_nothing_early():
    settings = ScheduleSettings(
        kind="steps", by_epoch=True, steps=(RateStep(epoch=1, factor=0.5),)
    )
    # 3.5 steps an epoch: steps 0 to 3 begin before the epoch's end.
    assert [rate_factor(settings, step, 7, 3.5) for step in range(5)] == [1, 1, 1, 0.5, 0.5]
