"""The numbers that the deformable passes of redc and redc_lite share with and without torch.

Not here: the passes (`sampling.py` with torch, `backends/refinement.py` without).
"""

from __future__ import annotations

# Logarithm of the depth in metres that redc_lite's inputs are centred on: 12.2 m. Where the fill
# knows nothing the correction starts from there.
CENTRE = 2.5
# redc_lite: the pass leaves at least this share of the corrected fill; its sum has no limit.
LEAST_SHARE = 0.25


def centred_taps(kernel: int) -> list[tuple[float, float]]:
    """Give x and y of the taps of a k x k grid around the pixel, row by row."""
    half = kernel // 2
    side = [float(place) for place in range(-half, half + 1)]
    return [(x, y) for y in side for x in side]


def published_taps(kernel: int) -> list[tuple[float, float]]:
    """Give x and y of the taps of the published ReDC: from -0.5 on, column by column."""
    side = [place - 0.5 for place in range(kernel)]
    return [(x, y) for x in side for y in side]
