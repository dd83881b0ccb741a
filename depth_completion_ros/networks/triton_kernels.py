"""CUDA kernels of the single-pass deformable refinement, forward and backward.

They need triton; import this module only where that is known to be there. Not here: when they
are used, and their gradients' place in autograd (`triton_refinement.py`).
"""

# What is decorated is written in triton's language, which has no types to check.
# mypy: ignore-errors

from __future__ import annotations

import triton
import triton.language as tl

# How weights (T per pixel) become those of the sum; constants of the compiled kernels.
AS_GIVEN = 0
SUBTRACT_MEAN = 1
DIVIDE_BY_SUM = 2

# Pixels of one program. Two per thread: their loads overlap, and the guidance of one program (27
# planes) still fits the first cache.
BLOCK = 256

# True where triton runs the kernels on the CPU, as TRITON_INTERPRET=1 asks for: in tests.
IS_INTERPRETED = bool(triton.knobs.runtime.interpret)


@triton.jit
def sum_samples(
    start,
    depth,
    weight,
    offset,
    out,
    height,
    width,
    weight_batch,
    weight_channel,
    weight_pixel,
    offset_batch,
    offset_channel,
    offset_pixel,
    TAPS: tl.constexpr,  # x, y of the first tap, of the second, ...
    REACH: tl.constexpr,
    NORMALISE: tl.constexpr,
    REPEAT_BORDER: tl.constexpr,
    SCALE: tl.constexpr,  # pixels along x and y that share their guidance
    BLOCK: tl.constexpr,
):
    """Compute out = start + sum of normalised weight * sample; see `sampling.add_samples`."""
    COUNT: tl.constexpr = len(TAPS) // 2
    batch = tl.program_id(1).to(tl.int64)
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    columns = width // SCALE
    inside = place < (height // SCALE) * columns
    weight += batch * weight_batch + place * weight_pixel
    offset += batch * offset_batch + place * offset_pixel
    image = batch * height * width
    level = _level(weight, weight_channel, inside, COUNT, NORMALISE)
    for phase in tl.static_range(SCALE * SCALE):
        x = place % columns * SCALE + phase % SCALE
        y = place // columns * SCALE + phase // SCALE
        total = tl.load(start + image + y * width + x, mask=inside, other=0.0)
        for t in tl.static_range(COUNT):
            share = tl.load(weight + t * weight_channel, mask=inside, other=0.0).to(tl.float32)
            share = _normalised(share, level, COUNT, NORMALISE)
            at = offset + 2 * t * offset_channel
            shift_x = tl.load(at, mask=inside, other=0.0).to(tl.float32) + TAPS[2 * t]
            shift_y = (
                tl.load(at + offset_channel, mask=inside, other=0.0).to(tl.float32)
                + TAPS[2 * t + 1]
            )
            whole_x, part_x, fade_x = _split(shift_x, REACH)
            whole_y, part_y, fade_y = _split(shift_y, REACH)
            u, v = x + whole_x, y + whole_y
            a = _read(depth + image, u, v, height, width, inside, REPEAT_BORDER)
            b = _read(depth + image, u + 1, v, height, width, inside, REPEAT_BORDER)
            c = _read(depth + image, u, v + 1, height, width, inside, REPEAT_BORDER)
            d = _read(depth + image, u + 1, v + 1, height, width, inside, REPEAT_BORDER)
            upper = a + part_x * (b - a)
            lower = c + part_x * (d - c)
            total += share * fade_x * fade_y * (upper + part_y * (lower - upper))
        tl.store(out + image + y * width + x, total, mask=inside)


@triton.jit
def sum_samples_backward(
    grad_out,
    depth,
    weight,
    offset,
    grad_depth,  # zeros at first
    grad_weight,
    grad_offset,
    height,
    width,
    weight_batch,
    weight_channel,
    weight_pixel,
    offset_batch,
    offset_channel,
    offset_pixel,
    TAPS: tl.constexpr,
    REACH: tl.constexpr,
    NORMALISE: tl.constexpr,
    REPEAT_BORDER: tl.constexpr,
    SCALE: tl.constexpr,
    WITH_DEPTH: tl.constexpr,  # False leaves grad_depth alone
    BLOCK: tl.constexpr,
):
    """Compute the gradients of `sum_samples`; those of weight and offset have their strides.

    At a kink, the sides are taken as torch takes them in `sampling.add_samples`.
    """
    COUNT: tl.constexpr = len(TAPS) // 2
    batch = tl.program_id(1).to(tl.int64)
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    columns = width // SCALE
    inside = place < (height // SCALE) * columns
    weight += batch * weight_batch + place * weight_pixel
    grad_weight += batch * weight_batch + place * weight_pixel
    offset += batch * offset_batch + place * offset_pixel
    grad_offset += batch * offset_batch + place * offset_pixel
    image = batch * height * width
    level = _level(weight, weight_channel, inside, COUNT, NORMALISE)
    # What the gradients of a pixel's weights have in common, as all of them set its level.
    common = tl.zeros([BLOCK], tl.float32)
    raw = ()
    for t in tl.static_range(COUNT):
        share = tl.load(weight + t * weight_channel, mask=inside, other=0.0).to(tl.float32)
        share = _normalised(share, level, COUNT, NORMALISE)
        at = 2 * t * offset_channel
        shift_x = tl.load(offset + at, mask=inside, other=0.0).to(tl.float32) + TAPS[2 * t]
        at_y = at + offset_channel
        shift_y = tl.load(offset + at_y, mask=inside, other=0.0).to(tl.float32) + TAPS[2 * t + 1]
        whole_x, part_x, fade_x = _split(shift_x, REACH)
        whole_y, part_y, fade_y = _split(shift_y, REACH)
        fade = fade_x * fade_y
        to_share = tl.zeros([BLOCK], tl.float32)
        slope_x = tl.zeros([BLOCK], tl.float32)
        slope_y = tl.zeros([BLOCK], tl.float32)
        for phase in tl.static_range(SCALE * SCALE):
            x = place % columns * SCALE + phase % SCALE
            y = place // columns * SCALE + phase // SCALE
            received = tl.load(grad_out + image + y * width + x, mask=inside, other=0.0)
            u, v = x + whole_x, y + whole_y
            a = _read(depth + image, u, v, height, width, inside, REPEAT_BORDER)
            b = _read(depth + image, u + 1, v, height, width, inside, REPEAT_BORDER)
            c = _read(depth + image, u, v + 1, height, width, inside, REPEAT_BORDER)
            d = _read(depth + image, u + 1, v + 1, height, width, inside, REPEAT_BORDER)
            upper = a + part_x * (b - a)
            lower = c + part_x * (d - c)
            to_share += received * (upper + part_y * (lower - upper))
            slope_x += received * ((b - a) + part_y * ((d - c) - (b - a)))
            slope_y += received * (lower - upper)
            if WITH_DEPTH:
                g = received * share * fade
                here, there = grad_depth + image, inside
                _give(
                    here, u, v, g * (1 - part_x) * (1 - part_y), height, width, there,
                    REPEAT_BORDER,
                )  # fmt: skip
                _give(
                    here, u + 1, v, g * part_x * (1 - part_y), height, width, there, REPEAT_BORDER
                )
                _give(
                    here, u, v + 1, g * (1 - part_x) * part_y, height, width, there, REPEAT_BORDER
                )
                _give(here, u + 1, v + 1, g * part_x * part_y, height, width, there, REPEAT_BORDER)
        to_x = _slope(shift_x, REACH, to_share * fade_y, slope_x * fade)
        to_y = _slope(shift_y, REACH, to_share * fade_x, slope_y * fade)
        tl.store(grad_offset + at, share * to_x, mask=inside)
        tl.store(grad_offset + at_y, share * to_y, mask=inside)
        to_share *= fade
        if NORMALISE == 1:
            common += to_share * (1.0 / COUNT)
        elif NORMALISE == 2:
            common += to_share * share
        raw = raw + (to_share,)  # noqa: RUF005 - triton has no other way
    for t in tl.static_range(COUNT):
        to_weight = raw[t] - common
        if NORMALISE == 2:
            to_weight = to_weight / level
        tl.store(grad_weight + t * weight_channel, to_weight, mask=inside)


@triton.jit
def _level(weight, channel, inside, COUNT: tl.constexpr, NORMALISE: tl.constexpr):
    """Give the mean or the sum of the weights, whichever they are normalised by."""
    total = tl.zeros(inside.shape, tl.float32)
    if NORMALISE != 0:
        for t in tl.static_range(COUNT):
            total += tl.load(weight + t * channel, mask=inside, other=1.0).to(tl.float32)
    if NORMALISE == 1:
        total *= 1.0 / COUNT
    return total


@triton.jit
def _normalised(share, level, COUNT: tl.constexpr, NORMALISE: tl.constexpr):
    if NORMALISE == 1:
        share -= level
    elif NORMALISE == 2:
        share = share / level
    return share


@triton.jit
def _split(shift, REACH: tl.constexpr):
    """Give whole pixels, the rest, and how much is left of a sample beyond the reach."""
    fade = tl.minimum(tl.maximum(REACH + 1 - tl.abs(shift), 0.0), 1.0)
    limited = tl.minimum(tl.maximum(shift, -REACH), REACH)
    whole = tl.floor(limited)
    return whole.to(tl.int32), limited - whole, fade


@triton.jit
def _slope(shift, REACH: tl.constexpr, by_fade, by_place):
    """Add what a sample changes by its fade and by its place, where these change at all."""
    beyond = REACH + 1 - tl.abs(shift)
    sign = tl.where(shift > 0, 1.0, -1.0)
    fading = tl.where((beyond >= 0) & (beyond <= 1), -sign * by_fade, 0.0)
    return fading + tl.where(tl.abs(shift) <= REACH, by_place, 0.0)


@triton.jit
def _read(depth, u, v, height, width, inside, REPEAT_BORDER: tl.constexpr):
    """Read a corner; outside the map it is 0 or what the border holds."""
    if REPEAT_BORDER:
        u = tl.minimum(tl.maximum(u, 0), width - 1)
        v = tl.minimum(tl.maximum(v, 0), height - 1)
    else:
        inside = inside & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    return tl.load(depth + v * width + u, mask=inside, other=0.0)


@triton.jit
def _give(grad, u, v, value, height, width, inside, REPEAT_BORDER: tl.constexpr):
    """Add to the gradient of the corner that `_read` reads."""
    if REPEAT_BORDER:
        u = tl.minimum(tl.maximum(u, 0), width - 1)
        v = tl.minimum(tl.maximum(v, 0), height - 1)
    else:
        inside = inside & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    tl.atomic_add(grad + v * width + u, value, mask=inside & (value != 0.0), sem="relaxed")
