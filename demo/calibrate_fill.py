"""Fit the table that turns what `fill` knows about an estimate into confidence and sigma.

    python demo/calibrate_fill.py ../shared/kitti/completion ../shared/kitti/places \
        --check ../shared/kitti/validation

Prints the constants of `completers/fill_confidence.py`. A logistic regression weighs the features
of every pixel with ground truth, and isotonic regression over its score gives the share of right
estimates and the RMS error in tolerances. SOURCES are fitted to, --check sources are only judged,
by the constants the package has now (run it again after pasting new ones).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import cv2
import numpy as np
from tqdm import tqdm

from depth_completion_ros import open_completer, open_source
from depth_completion_ros.completers.base import sparse_depth_of
from depth_completion_ros.completers.fill import fill_depth
from depth_completion_ros.completers.fill_confidence import confidence_features, tolerance
from depth_completion_ros.evaluation.confidence import Coverage, reliability, sigma_coverage
from depth_completion_ros.evaluation.metrics import is_right
from depth_completion_ros.settings import ProjectionSettings

PIXELS_PER_FRAME = 3000
# Sorted by score, pixels are taken together so many at a time before the isotonic regression.
GROUP = 1000
SCORES = (-4.0, 8.0)
KNOTS = 25


def frames_with_truth(source: str) -> Iterator[tuple]:
    """Give frame and ground truth of every frame that has both truth and measurements."""
    dataset = open_source(source)
    for i in tqdm(range(len(dataset)), desc=source, disable=None):
        truth = dataset.ground_truth(i)
        if truth is not None:
            yield dataset[i], truth


def sample_pixels(sources: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give features (n, F), signed errors (n,) and depths (n,) of random pixels with truth."""
    random = np.random.default_rng(0)
    samples: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for source in sources:
        for frame, truth in frames_with_truth(source):
            filled = fill_depth(sparse_depth_of(frame, ProjectionSettings()))
            if filled is None:
                continue
            pixel = np.flatnonzero(truth)
            pixel = random.choice(pixel, min(PIXELS_PER_FRAME, len(pixel)), replace=False)
            y, x = np.divmod(pixel, truth.shape[1])
            rows, columns = filled.surface.cell
            at = [feature[y // rows, x // columns] for feature in confidence_features(filled)]
            samples.append(
                (np.stack(at, -1), filled.depth[y, x] - truth[y, x], filled.depth[y, x])
            )
    features, errors, depths = (np.concatenate(column) for column in zip(*samples, strict=True))
    return features.astype(np.float64), errors, depths


def fit_logistic(features: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Give constant and weights of the logistic regression, by Newton's method."""
    A = np.column_stack((np.ones(len(features)), features))
    weights = np.zeros(A.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-A @ weights))
        hessian = (A * (p * (1 - p))[:, None]).T @ A
        weights += np.linalg.solve(hessian, A.T @ (right - p))
    return weights


def fit_increasing(values: np.ndarray) -> np.ndarray:
    """Give the increasing sequence with the least squared distance (pool adjacent violators)."""
    means: list[float] = []
    sizes: list[int] = []
    for value in values:
        means.append(float(value))
        sizes.append(1)
        while len(means) > 1 and means[-2] > means[-1]:
            size = sizes[-2] + sizes[-1]
            means[-2] = (means[-2] * sizes[-2] + means[-1] * sizes[-1]) / size
            sizes[-2] = size
            del means[-1], sizes[-1]
    return np.repeat(means, sizes)


def tabulate(score: np.ndarray, values: np.ndarray, sign: int) -> np.ndarray:
    """Give the isotonic regression of values on scores at the table's knots."""
    order = np.argsort(score, kind="stable")
    order = order[: len(order) // GROUP * GROUP].reshape(-1, GROUP)
    curve = sign * fit_increasing(sign * values[order].mean(1))
    return np.interp(np.linspace(*SCORES, KNOTS), score[order].mean(1), curve)


def print_constants(sources: list[str]) -> None:
    """Fit and print."""
    features, errors, depths = sample_pixels(sources)
    right = is_right(depths, depths - errors)
    weights = fit_logistic(features, right)
    score = weights[0] + features @ weights[1:]
    # Rounding must not make anything certain.
    confidence = np.minimum(tabulate(score, right.astype(np.float64), 1), 0.999)
    squared = (errors / tolerance(depths)).astype(np.float64) ** 2
    sigma = np.sqrt(tabulate(score, squared, -1))
    print(f"# {len(errors)} pixels, {right.mean():.1%} right")
    for name, values in (("_WEIGHTS", weights), ("_CONFIDENCE", confidence), ("_SIGMA", sigma)):
        print(f"{name} = ({', '.join(f'{value:.3g}' for value in values)})")
    print(f"_SCORES = {SCORES}")


def check(source: str) -> None:
    """Print how well the confidence of the package fits a source."""
    total, coverage = None, Coverage(0, 0, 0)
    with open_completer("fill") as completer:
        for frame, truth in frames_with_truth(source):
            dense = completer.complete(frame)
            table = reliability(dense.depth, truth, dense.confidence)
            total = table if total is None else total.plus(table)
            coverage = coverage.plus(sigma_coverage(dense.depth, truth, dense.sigma))
    if total is None:
        print(f"{source}: no ground truth")
        return
    print(f"{source}: expected calibration error {total.expected_calibration_error:.3f}")
    for pixels, confidence, right in zip(*total, strict=True):
        if pixels:
            share = pixels / total.pixels.sum()
            print(f"  {share:6.1%} of pixels: {confidence / pixels:.2f} -> {right / pixels:.2f}")
    one, two = coverage.within_one / coverage.pixels, coverage.within_two / coverage.pixels
    print(f"  error within one sigma {one:.1%}, two sigma {two:.1%}")


def main() -> None:
    """Fit, then check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="*", metavar="SOURCE", help="with ground truth, to fit")
    parser.add_argument("--check", nargs="*", default=[], help="sources to judge the result on")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    if args.sources:
        print_constants(args.sources)
    for source in args.check:
        check(source)


if __name__ == "__main__":
    main()
