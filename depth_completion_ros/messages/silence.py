"""Words for a synchroniser that gives no pairs: what was found, what was expected, what to do.

Not here: publishers and quality of service, which only the node can see.
"""

from __future__ import annotations

import bisect
import statistics
from collections.abc import Iterable

from ..settings import SyncSettings
from .waiting import SECOND_NS, WaitingInput

# Stamps before 1980 count from the start of a computer or sensor, not from 1970.
_WALL_TIME_NS = 10 * 365 * 86400 * SECOND_NS
# TAI, which PTP clocks keep, is ahead of UTC by this since 2017; GPS time by 19 less.
_TAI_UTC, _GPS_UTC = 37.0, 18.0
# The largest offset that the settings take; beyond it the clocks differ.
_LARGEST_OFFSET = 10.0
# No sensor's message is on its way for longer; farther apart, the stamps themselves differ.
_LONGEST_DELAY = 1.0
# So many in a row are no accident.
_RUN = 3


def explain_silence(
    settings: SyncSettings,
    images: WaitingInput,
    points: WaitingInput,
    now: float,
    since: float,
    jumps: int,
) -> str:
    """Name the likeliest reason why nothing matches, the most basic one first.

    Args:
        settings: what the matching was told.
        images, points: what arrived.
        now, since: seconds on one steady clock; `since` is the last match or the start.
        jumps: how often stamps ran backwards since then.

    Returns:
        One line.
    """
    inputs = (images, points)
    reasons = [
        *(_silence(source, now, since, settings.watchdog) for source in inputs),
        *(_bad_stamps(source) for source in inputs),
        *(_standing_still(source) for source in inputs),
    ]
    found = [reason for reason in reasons if reason]
    if found:
        return "; ".join(found)
    if jumps >= _RUN:
        return (
            f"stamps ran backwards {jumps} times in {now - since:.1f} s, expected a common "
            "direction; do two players or drivers publish on one topic?"
        )
    offsets = nearest_offsets(images.recent, points.recent)
    if not offsets:
        return "no usable stamps yet from both image and points; expected one of each"
    return _distance(settings, images, points, offsets)


def nearest_offsets(images: Iterable[int], points: Iterable[int]) -> list[int]:
    """Measure how far each cloud is from its nearest image.

    Args:
        images, points: stamps in nanoseconds, in any order.

    Returns:
        Cloud minus image in nanoseconds, one for each cloud; empty without images.
    """
    ordered = sorted(images)
    offsets = []
    for stamp in points:
        index = bisect.bisect_left(ordered, stamp)
        near = ordered[max(index - 1, 0) : index + 1]
        if near:
            offsets.append(min((stamp - other for other in near), key=abs))
    return offsets


def _silence(source: WaitingInput, now: float, since: float, watchdog: float) -> str:
    if source.last_arrival is None:
        return f"{source.name}: nothing received for {now - since:.1f} s; is its topic right?"
    if source.is_silent(now, since, watchdog):
        return (
            f"{source.name}: nothing received for {now - source.last_arrival:.1f} s after "
            f"{source.received} messages; did its publisher stop?"
        )
    return ""


def _bad_stamps(source: WaitingInput) -> str:
    if source.bad_run == 0 or (source.bad_run < _RUN and source.bad_stamps < source.received):
        return ""
    return (
        f"{source.name}: the last {source.bad_run} stamps are zero or negative, expected the time "
        "of acquisition; make the driver fill header.stamp"
    )


def _standing_still(source: WaitingInput) -> str:
    if source.duplicate_run < _RUN:
        return ""
    return (
        f"{source.name}: the last {source.duplicate_run} stamps came before, expected a new one "
        "with each message; does the driver set header.stamp once, or do two publishers send it?"
    )


def _distance(
    settings: SyncSettings, images: WaitingInput, points: WaitingInput, offsets: list[int]
) -> str:
    """Say how far apart the stamps are, and whether that is an offset or another clock."""
    allowed = {"exact": 0.0, "approximate": settings.slop, "latest": settings.timeout}
    limit = allowed[settings.policy]
    offset = statistics.median(offsets) / SECOND_NS
    lead = ((points.lead() or 0) - (images.lead() or 0)) / SECOND_NS
    if abs(offset) > limit and abs(lead) > _LONGEST_DELAY:
        # So far apart that the nearest stamps remembered are not the ones that belong together.
        offset, offsets = lead, [round(lead * SECOND_NS)]
    side = "after" if offset > 0 else "before" if offset < 0 else "from"
    if abs(offset) > _LARGEST_OFFSET:
        clocks = _clocks(images, points, abs(offset))
        return f"points are stamped {_amount(offset)} {side} images: {clocks}"
    apart = f"points are stamped {_amount(offset)} {side} the nearest image"
    name = "timeout" if settings.policy == "latest" else "slop"
    if abs(offset) <= limit:
        setting = "timeout" if settings.policy == "latest" else "queue_size"
        return (
            f"{apart}, which matches, but they arrive {abs(lead):.2f} s apart; raise "
            f"sync.{setting} (now {getattr(settings, setting):g})"
        )
    if settings.policy == "exact":
        return f"{apart}, expected equal stamps; set sync.policy to approximate"
    apart = f"{apart}, sync.{name} is {_amount(limit)}"
    deviations = [abs(other / SECOND_NS - offset) for other in offsets]
    if statistics.median(deviations) <= limit:
        wanted = settings.points_time_offset - offset
        return (
            f"{apart}; if both were taken at one time, set sync.points_time_offset to "
            f"{wanted:.3f}, else raise sync.{name}"
        )
    return f"{apart} and the distance varies; raise sync.{name} or the rate of the image"


def _clocks(images: WaitingInput, points: WaitingInput, apart: float) -> str:
    image, cloud = images.recent[-1], points.recent[-1]
    if (image < _WALL_TIME_NS) != (cloud < _WALL_TIME_NS):
        boot, wall = ("image", "points") if image < cloud else ("points", "image")
        return (
            f"{wall} has wall time, {boot} time since a start; expected one clock; set the "
            f"timestamp mode of the {boot} driver to system or PTP time"
        )
    advice = "expected one clock; synchronise the sensors' clocks (PTP, NTP)"
    for name, leap in (("TAI", _TAI_UTC), ("GPS time", _GPS_UTC)):
        if abs(apart - leap) < 1.0:
            return f"{advice}; {leap:.0f} s is {name} against UTC, set the UTC offset of PTP"
    return advice


def _amount(seconds: float) -> str:
    seconds = abs(seconds)
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3f} s" if seconds < 1000 else f"{seconds:.0f} s"
