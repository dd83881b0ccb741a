"""Kernel regression of scattered measurements with a steering kernel of its own for each.

Around every pixel a parabolic surface is fitted to all measurements in a window, by weighted least
squares; its height at the pixel is the depth there. Not here: the network that predicts the
kernels from the image (`steering.py`).

Instead of visiting the window of each pixel, the image is cut into tiles. The weights of a tile's
pixels for the measurements in reach form a matrix, and the sums of the normal equations are its
product with the monomials of the measurements' positions. Weights are in the type of the inputs,
sums and solution in float64: exact up to there, whatever the density.

The derivative is the true one. The published gradient is not: it differentiates the kernel
with 1/σ - σ in its mixed term, while the published value is computed with 1/σ - 1.

References:
    Liu et al., Learning Steering Kernels for Guided Depth Completion, IEEE TIP 30, 2021.
    Takeda et al., Kernel Regression for Image Processing and Reconstruction, IEEE TIP 16, 2007.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

# Exponents of row and column difference: the first 6 are the fitted surface, all 15 are needed for
# the products of any two of those.
MONOMIALS = tuple((degree - j, j) for degree in range(5) for j in range(degree + 1))
_SURFACE = 6
_SUMS = len(MONOMIALS) + _SURFACE

TILE = (16, 32)  # pixels, rows and columns; wide, as windows are
# Weights computed at once: on a CPU what stays in its cache, elsewhere what keeps it busy.
_CHUNK_CPU, _CHUNK_GPU = 2**18, 2**26
_SIGMA_FLOOR = 1e-5  # published
# Added to the covariance of the surface's monomials, in units of the window. As published: far
# below what counts, far above rounding. Flattest: curvature gives way first, slope then; 1e-3 has
# the least error at 10 measurements in reach of 1e-4 to 1e-1, and costs 1 % at 170.
RIDGES = {"pseudo_inverse": (1e-9,) * 5, "flattest": (1e-6, 1e-6, 1e-3, 1e-3, 1e-3)}
# Singular values of the normal equations in pixels that the published pseudo-inverse drops; no
# pivot of a covariance above the second lets one of them be so small.
_PUBLISHED_CUT, _SUSPICIOUS_PIVOT = 1e-5, 1e-4


def regress(
    sparse: Tensor,
    kernels: Tensor,
    *,
    window: tuple[int, int] = (26, 34),
    smoothing: float = 5.0,
    mixed_term: str = "published",
    undetermined: str = "flattest",
) -> Tensor:
    """Interpolate sparse depth; measured pixels keep their measurement.

    Args:
        sparse: (B, 1, H, W) metres, 0 where nothing was measured. Mirrored at the borders, as
            published, so that planes are exact only where the window does not reach a border.
        kernels: (B, 3, H, W): elongation sigma >= 0, orientation theta in radians, scale gamma
            of the kernel of each measurement; other pixels are not looked at.
        window: rows and columns that a measurement reaches to each side, in pixels.
        smoothing: h, the width of a round kernel of scale 1, in pixels.
        mixed_term: `published`, 1/sigma - 1, or `steering`, 1/sigma - sigma as in Takeda's
            formula, with which the kernel's contours are ellipses of area 1/gamma.
        undetermined: what is done where measurements in reach are fewer than six or badly placed.
            `flattest` bends the surface only as far as they ask for, and gives up its slope last:
            constants are exact from one measurement on, planes from three. `pseudo_inverse`, as
            published, takes the surface with the smallest coefficients, which draws depth to 0 m.

    Returns:
        (B, 1, H, W) metres, float32 or more; 0 where no measurement is in reach. Differentiable
        once, in the measurements and in the kernels.
    """
    exact = torch.promote_types(sparse.dtype, torch.float32)
    sparse, kernels = sparse.to(exact), kernels.to(exact)
    found = find_measurements(sparse, window)
    values = torch.cat((sparse, kernels), 1).permute(0, 2, 3, 1).reshape(-1, 4)
    depth, sigma, theta, gamma = values[found.source].unbind(1)
    quadratic = kernel_matrices(sigma, theta, gamma, mixed_term) / (-2 * smoothing**2)
    batch, _, height, width = sparse.shape
    tiles = _Tiles(batch, height, width, window)
    sums, offset = _sum_over_tiles(tiles, found, depth, quadratic, gamma.abs())
    sums = _centre_on_pixels(sums, tiles)  # (21, tiles, pixels)
    above, is_suspicious = _fit(sums, RIDGES[undetermined])
    dense = torch.where(sums[0] > 0, above + offset[:, None], 0)
    if undetermined == "pseudo_inverse":
        index = is_suspicious.nonzero(as_tuple=True)
        fitted = _fit_by_pseudo_inverse(sums[:, index[0], index[1]].T, offset[index[0]], window)
        dense = dense.index_put(index, fitted)
    dense = tiles.assemble(dense)[:, None].to(exact)
    return torch.where(sparse > 0, sparse, dense)


def kernel_matrices(sigma: Tensor, theta: Tensor, gamma: Tensor, mixed_term: str) -> Tensor:
    """Make the quadratic form C of each kernel: (3, N), C11 of rows, C12, C22 of columns."""
    sigma = sigma + _SIGMA_FLOOR
    cos, sin = torch.cos(theta), torch.sin(theta)
    other = 1.0 if mixed_term == "published" else sigma
    return torch.stack(
        (
            gamma * (sigma * cos**2 + sin**2 / sigma),
            gamma * cos * sin * (1 / sigma - other),
            gamma * (sigma * sin**2 + cos**2 / sigma),
        )
    )


class Measurements(NamedTuple):
    """Hold where measurements are, mirror images at the borders included.

    Attributes:
        batch, row, column: (N,) int64; rows and columns are negative or beyond the image for
            mirror images.
        source: (N,) int64, index of the measured pixel in (B * H * W).
    """

    batch: Tensor
    row: Tensor
    column: Tensor
    source: Tensor


def find_measurements(sparse: Tensor, window: tuple[int, int]) -> Measurements:
    """List the measurements of (B, 1, H, W) and their mirror images within a window."""
    height, width = sparse.shape[2:]
    rows = _mirrored(height, window[0], sparse.device)
    columns = _mirrored(width, window[1], sparse.device)
    measured = (sparse[:, 0] > 0)[:, rows][:, :, columns]
    batch, row, column = measured.nonzero(as_tuple=True)
    source = (batch * height + rows[row]) * width + columns[column]
    return Measurements(batch, row - window[0], column - window[1], source)


def _mirrored(size: int, margin: int, device: torch.device) -> Tensor:
    """Give the pixels that positions -margin ... size - 1 + margin show; any size, any margin."""
    period = max(2 * (size - 1), 1)
    position = torch.arange(-margin, size + margin, device=device) % period
    return torch.minimum(position, (period - position) % period if size > 1 else position)


class _Tiles:
    """Cut a batch of images into tiles, the last ones reaching over the border."""

    def __init__(self, batch: int, height: int, width: int, window: tuple[int, int]) -> None:
        self.batch, self.height, self.width, self.window = batch, height, width, window
        self.size = (min(TILE[0], height), min(TILE[1], width))
        self.rows = -(-height // self.size[0])
        self.columns = -(-width // self.size[1])

    @property
    def count(self) -> int:
        return self.batch * self.rows * self.columns

    def in_reach(self, found: Measurements) -> tuple[Tensor, Tensor]:
        """List all pairs of a tile and a measurement in reach, by tile: two (pairs,) int64."""
        first_row, rows = self._reached(found.row, 0, self.height)
        first_column, columns = self._reached(found.column, 1, self.width)
        row_step = torch.arange(self._most_reached(0), device=rows.device)
        column_step = torch.arange(self._most_reached(1), device=rows.device)
        inside = (row_step < rows[:, None])[:, :, None] & (column_step < columns[:, None])[:, None]
        which, row_index, column_index = inside.nonzero(as_tuple=True)
        row, column = first_row[which] + row_index, first_column[which] + column_index
        tile = (found.batch[which] * self.rows + row) * self.columns + column
        tile, order = torch.sort(tile, stable=True)
        return tile, which[order]

    def _reached(self, position: Tensor, axis: int, length: int) -> tuple[Tensor, Tensor]:
        reach, size = self.window[axis], self.size[axis]
        first = (position - reach).clamp(min=0) // size
        last = (position + reach).clamp(max=length - 1) // size
        return first, last - first + 1

    def _most_reached(self, axis: int) -> int:
        return 2 * self.window[axis] // self.size[axis] + 2

    def origins(self, tile: Tensor) -> tuple[Tensor, Tensor]:
        """Give row and column of the first pixel of tiles."""
        column = tile % self.columns
        row = tile // self.columns % self.rows
        return row * self.size[0], column * self.size[1]

    def assemble(self, values: Tensor) -> Tensor:
        """Put (tiles, pixels) together to (B, H, W)."""
        grid = values.view(self.batch, self.rows, self.columns, *self.size)
        whole = grid.permute(0, 1, 3, 2, 4).reshape(
            self.batch, self.rows * self.size[0], self.columns * self.size[1]
        )
        return whole[:, : self.height, : self.width]


def _sum_over_tiles(
    tiles: _Tiles, found: Measurements, depth: Tensor, quadratic: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """Sum up the normal equations of every pixel, in positions relative to its tile's centre.

    Returns:
        (tiles, pixels, 21) float64: weighted sums of the 15 monomials, and of 6 of them times
        depth less its tile's offset; and those offsets (tiles,) float64, metres.
    """
    tile, which = tiles.in_reach(found)
    counts = torch.bincount(tile, minlength=tiles.count)
    starts = counts.cumsum(0) - counts
    order = torch.argsort(counts, descending=True, stable=True)  # like with like: less padding
    pixels = tiles.size[0] * tiles.size[1]
    sums, offsets = [], []
    for chunk, most in _chunks(counts[order].tolist(), pixels, tile.device.type == "cpu"):
        members = order[chunk]
        place = torch.arange(most, device=tile.device)
        used = place < counts[members, None]  # (tiles, most)
        index = which[(starts[members, None] + place).clamp(max=max(len(which) - 1, 0))]
        part, offset = _sum_chunk(tiles, members, index, used, found, depth, quadratic, scale)
        sums.append(part)
        offsets.append(offset)
    empty = tiles.count - sum(len(part) for part in sums)
    sums.append(torch.zeros(empty, pixels, _SUMS, dtype=torch.float64, device=tile.device))
    offsets.append(torch.zeros(empty, dtype=torch.float64, device=tile.device))
    back = torch.argsort(order)
    return torch.cat(sums)[back], torch.cat(offsets)[back]


def _chunks(counts: list[int], pixels: int, on_cpu: bool) -> Iterator[tuple[slice, int]]:
    """Group tiles, given the falling counts of their measurements; none for empty tiles."""
    limit = _CHUNK_CPU if on_cpu else _CHUNK_GPU
    start = 0
    while start < len(counts) and counts[start] > 0:
        size = max(1, limit // (pixels * counts[start]))
        end = start + size
        while counts[min(end, len(counts)) - 1] == 0:
            end -= 1
        yield slice(start, end), counts[start]
        start = end


def _sum_chunk(
    tiles: _Tiles,
    members: Tensor,
    index: Tensor,
    used: Tensor,
    found: Measurements,
    depth: Tensor,
    quadratic: Tensor,
    scale: Tensor,
) -> tuple[Tensor, Tensor]:
    """Sum up for the T tiles `members`, whose measurements are `index` (T, N) where `used`."""
    top, left = tiles.origins(members)
    rows = found.row[index] - top[:, None]  # (T, N), relative to the first pixel
    columns = found.column[index] - left[:, None]
    monomials = _monomials(rows, columns, tiles)  # (T, N, 15)
    depths = depth[index].double()
    with torch.no_grad():  # whatever is subtracted is added again
        offset = (depths * used).sum(1) / used.sum(1)
    weighted = monomials * (scale[index] * used).double()[..., None]
    features = torch.cat(
        (weighted, weighted[..., :_SURFACE] * (depths - offset[:, None])[..., None]), 2
    )
    weighed = _KernelSums.apply(quadratic[:, index], features, rows, columns, tiles)  # type: ignore[no-untyped-call]
    return weighed, offset


def _monomials(rows: Tensor, columns: Tensor, tiles: _Tiles) -> Tensor:
    """Give the monomials of positions relative to the tile's centre, in units of the window."""
    a, b = _scaled(rows, columns, tiles)
    return torch.stack([a**i * b**j for i, j in MONOMIALS], -1)


def _scaled(rows: Tensor, columns: Tensor, tiles: _Tiles) -> tuple[Tensor, Tensor]:
    reach = [max(side, 1) for side in tiles.window]
    a = (rows.double() - (tiles.size[0] - 1) / 2) / reach[0]
    b = (columns.double() - (tiles.size[1] - 1) / 2) / reach[1]
    return a, b


class _KernelSums(torch.autograd.Function):
    """Weigh features (T, N, F) by kernels (3, T, N) and sum them up for each pixel (T, P, F).

    Backward computes the weights again, so that no more memory is needed than forward.
    """

    @staticmethod
    def forward(
        ctx: Any, quadratic: Tensor, features: Tensor, rows: Tensor, columns: Tensor, tiles: _Tiles
    ) -> Tensor:
        ctx.save_for_backward(quadratic, features, rows, columns)
        ctx.tiles = tiles
        a, b, in_rows, in_columns = _differences(rows, columns, tiles, quadratic.dtype)
        weight = _exponent(quadratic, a, b).tanh_().mul_(2).exp_()
        weight.mul_(in_rows[:, :, None]).mul_(in_columns[:, None])
        return weight.flatten(1, 2).double() @ features

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        quadratic, features, rows, columns = ctx.saved_tensors
        a, b, in_rows, in_columns = _differences(rows, columns, ctx.tiles, quadratic.dtype)
        tanh = _exponent(quadratic, a, b).tanh_()
        weight = torch.exp(2 * tanh).mul_(in_rows[:, :, None]).mul_(in_columns[:, None])
        flat = weight.flatten(1, 2).double()
        to_features = flat.mT @ gradient
        to_weight = (gradient @ features.mT).to(weight.dtype).view_as(weight)
        to_exponent = to_weight.mul_(weight).mul_(2 * (1 - tanh * tanh))  # (T, R, C, N)
        over_columns = to_exponent.sum(2)
        to_quadratic = torch.stack(
            (
                (over_columns * a * a).sum(1),
                2 * ((to_exponent * b[:, None]).sum(2) * a).sum(1),
                (to_exponent.sum(1) * b * b).sum(1),
            )
        )
        return to_quadratic, to_features, None, None, None


def _differences(
    rows: Tensor, columns: Tensor, tiles: _Tiles, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Give measurement less pixel: rows (T, R, N), columns (T, C, N), and 1 where in reach."""
    of_row = torch.arange(tiles.size[0], device=rows.device)[:, None]
    of_column = torch.arange(tiles.size[1], device=rows.device)[:, None]
    a, b = rows[:, None] - of_row, columns[:, None] - of_column
    in_rows, in_columns = a.abs() <= tiles.window[0], b.abs() <= tiles.window[1]
    return a.to(dtype), b.to(dtype), in_rows.to(dtype), in_columns.to(dtype)


def _exponent(quadratic: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Evaluate the quadratic forms (3, T, N): (T, R, C, N)."""
    of_rows, mixed, of_columns = quadratic[:, :, None]
    exponent: Tensor = (2 * mixed * a)[:, :, None] * b[:, None]
    exponent += (of_rows * a * a)[:, :, None]
    exponent += (of_columns * b * b)[:, None]
    return exponent


def _centre_on_pixels(sums: Tensor, tiles: _Tiles) -> Tensor:
    """Turn sums about the tile's centre into sums about each pixel: (21, tiles, P)."""
    of_row = torch.arange(tiles.size[0], device=sums.device)
    of_column = torch.arange(tiles.size[1], device=sums.device)
    row, column = torch.meshgrid(of_row, of_column, indexing="ij")
    a, b = _scaled(row.flatten(), column.flatten(), tiles)  # (P,)
    shift = sums.new_zeros(len(a), _SUMS, _SUMS)
    for to, (i, j) in enumerate(MONOMIALS):
        for at, (k, m) in enumerate(MONOMIALS):
            if k <= i and m <= j:
                factor = math.comb(i, k) * math.comb(j, m) * (-a) ** (i - k) * (-b) ** (j - m)
                shift[:, to, at] = factor
    first = len(MONOMIALS)
    shift[:, first:, first:] = shift[:, :_SURFACE, :_SURFACE]
    return (shift @ sums.permute(1, 2, 0)).permute(1, 2, 0)  # (P, 21, tiles) before


def _fit(sums: Tensor, ridges: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Fit the surface and give its height at the pixel.

    Eliminating the constant leaves the weighted covariance of the other five monomials.

    Args:
        sums: (21, ...) float64 about the pixel.
        ridges: added to the diagonal of the covariance, one for each of the five.

    Returns:
        (...) metres above the tile's offset, where there are measurements; and (...) bool, True
        where the surface may be undetermined.
    """
    total = sums[0]
    # Taken apart once: each index would have a gradient as large as all sums.
    planes = (sums / torch.where(total > 0, total, 1)).unbind()
    means = planes[1:_SURFACE]
    mean_height, *products = planes[len(MONOMIALS) :]
    slopes = [product - mean * mean_height for product, mean in zip(products, means, strict=True)]
    moments = _products(planes)
    covariance = [
        [moments[p + 1][q + 1] - means[p] * means[q] for q in range(p + 1)]
        for p in range(_SURFACE - 1)
    ]
    with torch.no_grad():
        factors = _factorise(covariance, ridges)
        surface = _substitute(factors, slopes)
        lowest = torch.stack([row[-1] for row in factors]).amin(0)
    height = mean_height
    for mean, coefficient in zip(means, surface, strict=True):
        height = height - mean * coefficient
    if sums.requires_grad:
        # What is left of the equations is 0; its derivative is that of the solution.
        with torch.no_grad():
            adjoint = _substitute(factors, means)
        for p in range(_SURFACE - 1):
            rest = slopes[p] - ridges[p] * surface[p]
            for q in range(_SURFACE - 1):
                rest = rest - covariance[max(p, q)][min(p, q)] * surface[q]
            height = height - adjoint[p] * rest
    return height, (total > 0) & (lowest < _SUSPICIOUS_PIVOT)


def _products(sums: Sequence[Tensor]) -> list[list[Tensor]]:
    """Arrange the sums of the monomials, 15 or more, as the 6 x 6 normal matrix."""
    at = {exponents: n for n, exponents in enumerate(MONOMIALS)}
    surface = MONOMIALS[:_SURFACE]
    return [[sums[at[i + k, j + m]] for k, m in surface] for i, j in surface]


def _fit_by_pseudo_inverse(sums: Tensor, offset: Tensor, window: tuple[int, int]) -> Tensor:
    """Do what `_fit` does as published, for n pixels.

    Args:
        sums: (n, 21) float64 about the pixel.
        offset: (n,) metres, what was subtracted from the measurements.
        window: as for `regress`.

    Returns:
        (n,) metres.
    """
    if len(sums) == 0:
        return offset
    reach = [max(side, 1) for side in window]
    unit = sums.new_tensor([reach[0] ** i * reach[1] ** j for i, j in MONOMIALS[:_SURFACE]])
    matrix = torch.stack(
        [torch.stack(row, -1) for row in _products(sums.unbind(1))], -1
    )  # (n, 6, 6)
    matrix = matrix * unit * unit[:, None]  # in pixels, which is what the cut is made for
    right = sums[:, len(MONOMIALS) :] * unit + offset[:, None] * matrix[..., 0]
    with torch.no_grad():
        values, vectors = torch.linalg.eigh(matrix)
        inverse = torch.where(values > _PUBLISHED_CUT, 1 / values, 0)
        pseudo_inverse = vectors * inverse[:, None] @ vectors.mT
        surface: Tensor = (pseudo_inverse @ right[..., None])[..., 0]
        adjoint = pseudo_inverse[..., 0]
    if not matrix.requires_grad and not right.requires_grad:
        height: Tensor = surface[:, 0]
        return height
    rest: Tensor = right - (matrix @ surface[..., None])[..., 0]  # as in `_fit`
    depth: Tensor = surface[:, 0] + (adjoint * (rest - rest.detach())).sum(1)
    return depth


def _factorise(matrix: list[list[Tensor]], ridges: Sequence[float]) -> list[list[Tensor]]:
    """Decompose symmetric matrices plus ridges, lower half, into L D Lᵀ; D on the diagonal."""
    factors: list[list[Tensor]] = []
    for p, row in enumerate(matrix):
        scaled: list[Tensor] = []  # L D
        for q in range(p):
            value = row[q]
            for k in range(q):
                value = value - scaled[k] * factors[q][k]
            scaled.append(value)
        lower = [value / factors[q][q] for q, value in enumerate(scaled)]
        pivot = row[p] + ridges[p]
        for value, factor in zip(scaled, lower, strict=True):
            pivot = pivot - value * factor
        factors.append([*lower, pivot.clamp(min=ridges[p])])  # rounding may take it below
    return factors


def _substitute(factors: list[list[Tensor]], right: Sequence[Tensor]) -> list[Tensor]:
    """Solve L D Lᵀ x = right."""
    x: list[Tensor] = []
    for p, value in enumerate(right):
        for q in range(p):
            value = value - factors[p][q] * x[q]
        x.append(value)
    x = [value / factors[p][p] for p, value in enumerate(x)]
    for p in reversed(range(len(x))):
        for q in range(p + 1, len(x)):
            x[p] = x[p] - factors[q][p] * x[q]
    return x
