"""CSPN's propagation: with one kernel and number of steps for all pixels, or for each its own.

Not here: who predicts affinities and choices (`cspn_plus.py`); PENet's form, where pixels send
instead of fetch (`penet.py`).

References:
    Cheng et al., Depth Estimation via Affinity Learned with Convolutional Spatial Propagation
    Network, ECCV 2018, arXiv 1808.00150; CSPN++, AAAI 2020, arXiv 1911.05377.
"""

from __future__ import annotations

import bisect
import functools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

KERNELS = (3, 5, 7)

# How far the largest kernel reaches, in pixels.
MARGIN = KERNELS[-1] // 2
# Pixels that are gathered at once: what belongs to them stays in a CPU's cache.
BLOCK = 4096
# A gathered pixel costs three to five times as much as one that is swept over.
SWEEP_SHARE = 0.25


def neighbours(kernel: int) -> list[tuple[int, int]]:
    """List the rows and columns from a pixel to its k² - 1 neighbours, ring by ring.

    Row-major within a ring, so that a smaller kernel's neighbours come first.
    """
    side = range(-(kernel // 2), kernel // 2 + 1)
    places = [(dy, dx) for dy in side for dx in side if (dy, dx) != (0, 0)]
    return sorted(places, key=lambda place: max(abs(place[0]), abs(place[1])))


class Affinity(NamedTuple):
    """Hold normalised affinities without a copy of the raw ones.

    Attributes:
        raw: (B, k² - 1, H, W), in the order of `neighbours`, each stored at the pixel that
            fetches; what points out of the map is ignored.
        scale: (B, 1, H, W), 1 / the sum of absolute values: κ = scale · raw.
        own: (B, 1, H, W), 1 - the sum of κ, the share of the pixel's own start.
    """

    raw: Tensor
    scale: Tensor
    own: Tensor


def normalise(raw: Tensor) -> Affinity:
    """Make the absolute shares of a pixel's neighbours sum to 1.

    Args:
        raw: (B, k² - 1, H, W); see `Affinity`.
    """
    size, signed = torch.zeros_like(raw[:, :1]), torch.zeros_like(raw[:, :1])
    if torch.onnx.is_in_onnx_export():
        inside = raw * _neighbour_values(torch.ones_like(size), _kernel(raw))
        size, signed = inside.abs().sum(1, keepdim=True), inside.sum(1, keepdim=True)
        scale = 1 / size.clamp_min(torch.finfo(raw.dtype).tiny)
        return Affinity(raw, scale, 1 - scale * signed)
    for share, (here, _) in zip(torch.split(raw, 1, 1), _overlaps(raw), strict=True):
        size[here] += share[here].abs()
        signed[here] += share[here]
    scale = 1 / size.clamp_min(torch.finfo(raw.dtype).tiny)
    return Affinity(raw, scale, 1 - scale * signed)


def received(raw: Tensor) -> Tensor:
    """Bring affinities that are stored where depth comes from to where it is fetched.

    Args:
        raw: (B, k² - 1, H, W), channel m is what a pixel sends to its neighbour m.

    Returns:
        The same size, channel m is what a pixel fetches from its neighbour m; 0 outside.
    """
    places = neighbours(_kernel(raw))
    result = torch.zeros_like(raw)
    for m, ((here, there), (dy, dx)) in enumerate(zip(_overlaps(raw), places, strict=True)):
        opposite = places.index((-dy, -dx))
        result[:, m : m + 1][here] = raw[:, opposite : opposite + 1][there]
    return result


def propagate(h: Tensor, start: Tensor, affinity: Affinity) -> Tensor:
    """Make one step: `κ_ii·h_0(i) + Σ_j κ_ij·h_t(j)`.

    Args:
        h: (B, 1, H, W) metres.
        start: (B, 1, H, W) metres, h_0.
        affinity: see `normalise`.

    Returns:
        (B, 1, H, W) metres.
    """
    (fetched,) = _fetch(h, affinity.raw, [affinity.raw.shape[1]])
    return affinity.own * start + affinity.scale * fetched


def iterate(
    start: Tensor,
    affinity: Affinity,
    steps: int,
    sparse: Tensor | None,
    guide: Tensor | None = None,
    back: Tensor | None = None,
) -> Iterator[Tensor]:
    """Propagate step by step, putting measurements back each time.

    Args:
        start: (B, 1, H, W) metres, h_0.
        affinity: see `normalise`.
        steps: how many.
        sparse: (B, 1, H, W) metres, 0 = none; None puts nothing back.
        guide: (B, 1, H, W) in [0, 1], how far; None goes all the way.
        back: (B, 1, H, W) metres, what is put back where `sparse` is not 0; None: `sparse`.

    Yields:
        (B, 1, H, W) metres after each step.
    """
    h = start
    for _ in range(steps):
        h = replace(propagate(h, start, affinity), sparse, guide, back)
        yield h


def replace(
    h: Tensor, sparse: Tensor | None, guide: Tensor | None = None, back: Tensor | None = None
) -> Tensor:
    """Put measurements back; arguments as for `iterate`."""
    if sparse is None:
        return h
    target = sparse if back is None else back
    if guide is not None:
        target = h + guide * (target - h)
    return torch.where(sparse > 0, target, h)


def propagate_weighted(
    start: Tensor,
    raw: Tensor,
    sparse: Tensor,
    kernels: Tensor,
    iterations: Tensor,
    steps: Sequence[int],
) -> Tensor:
    """Propagate every pixel with its own kernel for its own number of steps, on whole maps.

    With one-hot weights this is what `propagate_chosen` does for less; here the weights have a
    gradient, and pixels that stopped cost as much as others.

    Args:
        start: (B, 1, H, W) metres, h_0.
        raw: (B, 48, H, W); see `Affinity`; a kernel uses its inner window.
        sparse: (B, 1, H, W) metres, 0 = none.
        kernels: (B, 3, H, W) weights of the `KERNELS`.
        iterations: (B, T, H, W) weights of stopping after each of `steps`.
        steps: T numbers of steps, increasing.

    Returns:
        (B, 1, H, W) metres.
    """
    counts = [kernel**2 - 1 for kernel in KERNELS]
    shares = [normalise(raw[:, :count]) for count in counts]
    scales = [w * share.scale for w, share in zip(torch.split(kernels, 1, 1), shares, strict=True)]
    own = (
        sum(w * share.own for w, share in zip(torch.split(kernels, 1, 1), shares, strict=True))
        * start
    )
    h, done = start, 0
    for t, until in enumerate(steps):
        # Whoever stops later goes on now; the first steps are for everybody.
        going = iterations[:, t:].sum(1, keepdim=True)
        for _ in range(done, until):
            fetched = _fetch(h, raw, counts)
            terms = (scale * f for scale, f in zip(scales, fetched, strict=True))
            h = h + going * (replace(sum(terms, own), sparse) - h)
        done = until
    return h


# Gives raw affinities of one image: (count, H, W) without pixels, (N, count) of the
# pixels at N flat indices.
AffinityOf = Callable[[int, int, Tensor | None], Tensor]


def affinity_of_maps(raw: Tensor) -> AffinityOf:
    """Make what `propagate_chosen` asks from whole maps (B, 48, H, W)."""

    def affinity_of(image: int, count: int, pixels: Tensor | None) -> Tensor:
        maps = raw[image, :count]
        return maps if pixels is None else _rows_of(maps, pixels)

    return affinity_of


def _rows_of(maps: Tensor, pixels: Tensor) -> Tensor:
    """Gather (N, C) from (C, H, W) at N flat indices."""
    maps = maps.flatten(1)
    result = maps.new_empty(len(pixels), len(maps))
    for rows, part in zip(torch.split(result, BLOCK), torch.split(pixels, BLOCK), strict=True):
        rows.copy_(maps.index_select(1, part).t())
    return result


def propagate_chosen(
    start: Tensor, sparse: Tensor, kernels: Tensor, steps: Tensor, affinity_of: AffinityOf
) -> Tensor:
    """Propagate every pixel with its own kernel for its own number of steps, skipping the rest.

    A pixel that stopped, or is measured, keeps its value for its neighbours to fetch. Pixels of
    the same kernel that still go on are gathered, and only they are touched; while they are most
    of the image, sweeping over it is faster than gathering, and that is done. No gradient.

    Args:
        start: (B, 1, H, W) metres, h_0.
        sparse: (B, 1, H, W) metres, 0 = none; measured pixels end as measured.
        kernels: (B, H, W) uint8, sides of the kernels, of `KERNELS`.
        steps: (B, H, W) uint8, at least 1.
        affinity_of: gives raw affinities by image, count = k² - 1 and pixels, so that they need
            not exist where nobody uses them.

    Returns:
        (B, 1, H, W) metres.
    """
    with torch.no_grad():
        maps = [
            _propagate_image(
                start[b, 0], sparse[b, 0], kernels[b], steps[b], functools.partial(affinity_of, b)
            )
            for b in range(len(start))
        ]
    return torch.stack(maps)[:, None]


def _propagate_image(
    start: Tensor,
    sparse: Tensor,
    kernels: Tensor,
    steps: Tensor,
    affinity_of: Callable[[int, Tensor | None], Tensor],
) -> Tensor:
    measured = sparse > 0
    kernels = kernels.masked_fill(measured, 0)  # in no group: they are known after one step
    state = _State(F.pad(start, (MARGIN,) * 4), start)
    levels = [t for t, n in enumerate(torch.bincount(steps.flatten()).tolist()) if n > 0]
    code = steps.int() * 8 + kernels
    histogram = torch.bincount(code.flatten(), minlength=8 * levels[-1] + 8).view(-1, 8).tolist()
    groups = []
    for kernel in KERNELS:
        # How many go on at least until each level.
        counts = [sum(row[kernel] for row in histogram[level:]) for level in levels]
        if counts[0] > 0:
            groups.append(_Group(kernel, kernels == kernel, steps, levels, counts))
    for step in range(1, levels[-1] + 1):
        # All read the map before any writes to it.
        results = [group.fetch(state, step, affinity_of) for group in groups]
        for group, result in zip(groups, results, strict=True):
            group.store(state, result)
        if step == 1:
            torch.where(measured, sparse, state.map, out=state.map)
    return state.map.contiguous()


class _State(NamedTuple):
    """The map (H, W) that all pixels read and write, inside a frame, and how it started."""

    frame: Tensor
    start: Tensor

    @property
    def map(self) -> Tensor:
        return self.frame[MARGIN:-MARGIN, MARGIN:-MARGIN]


class _Group:
    """The pixels of an image that use the same kernel."""

    def __init__(
        self,
        kernel: int,
        members: Tensor,
        steps: Tensor,
        levels: list[int],
        counts: list[int],
    ) -> None:
        self.count = kernel**2 - 1
        self.places = neighbours(kernel)
        self.members, self.steps = members, steps
        self.levels, self.counts = levels, counts
        self.form: _Sweep | _Gather | None = None
        self.level = -1

    def fetch(
        self, state: _State, step: int, affinity_of: Callable[[int, Tensor | None], Tensor]
    ) -> Tensor | None:
        """Compute the next value of all that still go on."""
        level = bisect.bisect_left(self.levels, step)
        if level != self.level:
            self.level = level
            if self.counts[level] == 0:
                self.form = None
            elif self.counts[level] > SWEEP_SHARE * self.members.numel():
                if self.form is None:
                    self.form = _Sweep(affinity_of(self.count, None), state)
                self.form.going = self.members & (self.steps >= step)
            else:
                if not isinstance(self.form, _Gather):
                    pixels = self._pixels(level)
                    if isinstance(self.form, _Sweep):
                        # What is known for all pixels need not be predicted again.
                        shares = _rows_of(self.form.affinity.raw[0], pixels)
                    else:
                        shares = affinity_of(self.count, pixels)
                    self.form = _Gather(pixels, self.places, state, shares)
                self.form.keep(self.counts[level])
        return None if self.form is None else self.form.fetch(state)

    def store(self, state: _State, result: Tensor | None) -> None:
        if self.form is not None and result is not None:
            self.form.store(state, result)

    def _pixels(self, level: int) -> Tensor:
        """List the pixels that go on until a level, those that go on for longest first."""
        last = self.steps.flatten()
        pixels = (self.members.flatten() & (last >= self.levels[level])).nonzero()[:, 0]
        last = last[pixels]
        return torch.cat([pixels[last == value] for value in reversed(self.levels[level:])])


class _Sweep:
    """Compute whole maps, for a kernel that most pixels use."""

    going: Tensor  # (H, W) bool

    def __init__(self, raw: Tensor, state: _State) -> None:
        self.affinity = normalise(raw[None])
        self.constant = self.affinity.own * state.start

    def fetch(self, state: _State) -> Tensor:
        raw = self.affinity.raw
        (fetched,) = _fetch(state.map[None, None], raw, [raw.shape[1]])
        return fetched.mul_(self.affinity.scale).add_(self.constant)[0, 0]

    def store(self, state: _State, result: Tensor) -> None:
        torch.where(self.going, result, state.map, out=state.map)


class _Gather:
    """Compute single pixels, those that go on for longest first.

    One row of a sparse matrix for each pixel; rows of those that stopped are left out at the end.
    """

    def __init__(
        self, pixels: Tensor, places: list[tuple[int, int]], state: _State, shares: Tensor
    ) -> None:
        height, width = state.start.shape
        stride = width + 2 * MARGIN
        self.cells = state.frame.numel()
        row = torch.div(pixels, width, rounding_mode="floor")
        column = pixels - row * width
        _ignore_outside(shares, places, row, column, height, width)
        ones = torch.ones_like(shares[0])
        size = torch.mv(shares.abs(), ones)
        shares /= size.clamp_min_(torch.finfo(shares.dtype).tiny)[:, None]
        self.shares = shares  # (N, k² - 1)
        self.constant = (1 - torch.mv(shares, ones)) * state.start.flatten()[pixels]
        self.index = (row + MARGIN) * stride + (column + MARGIN)
        offsets = torch.tensor([dy * stride + dx for dy, dx in places], device=pixels.device)
        self.columns = self.index.int()[:, None] + offsets.int()  # (N, k² - 1)
        self.going = 0
        self.matrix: Tensor | None = None

    def keep(self, going: int) -> None:
        """Leave out all but the first pixels."""
        self.going = going
        if _has_sparse_product(self.index.device.type):
            taps = self.shares.shape[1]
            ends = torch.arange(going + 1, dtype=torch.int32, device=self.index.device) * taps
            self.matrix = torch.sparse_csr_tensor(
                ends,
                self.columns[:going].view(-1),
                self.shares[:going].view(-1),
                size=(going, self.cells),
                check_invariants=False,
            )

    def fetch(self, state: _State) -> Tensor:
        flat, constant = state.frame.view(-1), self.constant[: self.going]
        if self.matrix is None:
            shares, columns = self.shares[: self.going], self.columns[: self.going]
            return constant + (shares * flat[columns.long()]).sum(1)
        return torch.addmv(constant, self.matrix, flat)

    def store(self, state: _State, result: Tensor) -> None:
        state.frame.view(-1).index_copy_(0, self.index[: self.going], result)


def _ignore_outside(
    shares: Tensor,
    places: list[tuple[int, int]],
    row: Tensor,
    column: Tensor,
    height: int,
    width: int,
) -> None:
    """Set to 0, in place, what pixels (N,) would fetch from outside of the map."""
    half = max(dy for dy, _ in places)
    border = (row < half) | (row >= height - half)
    border |= (column < half) | (column >= width - half)
    at = border.nonzero()[:, 0]
    dy, dx = torch.tensor(places, device=row.device).unbind(1)
    y, x = row[at, None] + dy, column[at, None] + dx  # (N at the border, k² - 1)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    shares[at] = torch.where(inside, shares[at], 0)


@functools.cache
def _has_sparse_product(device: str) -> bool:
    """Try whether torch was built with what multiplies sparse matrices on a kind of device."""
    with warnings.catch_warnings():
        # Torch calls these tensors a beta, once in a process: now.
        warnings.simplefilter("ignore")
        zero = torch.zeros(1, dtype=torch.int32, device=device)
        value = torch.ones(1, device=device)
        try:
            matrix = torch.sparse_csr_tensor(torch.cat((zero, zero + 1)), zero, value, (1, 1))
            torch.addmv(value, matrix, value)
        except (RuntimeError, NotImplementedError):
            return False
    return True


def _fetch(h: Tensor, raw: Tensor, counts: Sequence[int]) -> list[Tensor]:
    """Sum `raw_ij·h(j)` over the first neighbours, (B, 1, H, W) for each of the counts."""
    if torch.onnx.is_in_onnx_export():
        terms = raw * _neighbour_values(h, _kernel(raw))
        return [terms[:, :count].sum(1, keepdim=True) for count in counts]
    sums = []
    total = torch.zeros_like(h)
    for m, (here, there) in enumerate(_overlaps(raw), 1):
        total[here].addcmul_(raw[:, m - 1 : m][here], h[there])
        if m in counts:
            sums.append(total)
            total = total.clone() if m < counts[-1] else total
    return sums


def _neighbour_values(h: Tensor, kernel: int) -> Tensor:
    """Lay what is around each pixel of (B, 1, H, W) over it, (B, k² - 1, H, W); 0 outside.

    For exported graphs: one operator in place of one for each neighbour.
    """
    side = range(-(kernel // 2), kernel // 2 + 1)
    # Made from a list, it is a constant of the graph and not hundreds of assignments.
    one_hot = [
        [[float(place == (dy, dx)) for dx in side] for dy in side] for place in neighbours(kernel)
    ]
    weight = torch.tensor(one_hot, dtype=h.dtype, device=h.device)[:, None]
    return F.conv2d(h, weight, padding=kernel // 2)


def _overlaps(raw: Tensor) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Give for each neighbour the pixels that have it in the map, and these neighbours."""
    height, width = raw.shape[2:]
    for dy, dx in neighbours(_kernel(raw)):
        rows, columns = _inside(height, dy), _inside(width, dx)
        rows_there, columns_there = _inside(height, -dy), _inside(width, -dx)
        everything = slice(None)
        yield (
            (everything, everything, rows, columns),
            (everything, everything, rows_there, columns_there),
        )


def _inside(size: int, shift: int) -> slice:
    """Give the places from which another one, `shift` further on, is in the map."""
    # A map smaller than the shift has none.
    start = min(max(0, -shift), size)
    return slice(start, max(start, min(size, size - shift)))


def _kernel(raw: Tensor) -> int:
    return math.isqrt(raw.shape[1] + 1)
