"""Complete depth with a network on any backend.

Not here: the networks (`networks/`), what runs them (`backends/`) and which one is taken
(`opening.py`). Look next at `networks/model_file.py` for what a graph takes and gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from ..backends.base import Backend
from ..backends.refinement import add_samples
from ..data import Float32Array, Frame, PinholeCamera
from ..geometry.camera import normalised_pixels
from ..networks.guidance import CENTRE, LEAST_SHARE, centred_taps, published_taps
from ..networks.model_file import COARSE, GUIDANCE, RIGHT_METRES, RIGHT_SHARE, Calibration
from ..networks.padding import Padding
from ..settings import ProjectionSettings
from .base import Completer, Estimate
from .fill import fill_depth
from .fill_confidence import cap_unchecked

# Logarithms of allowed error over sigma that the 256 entries of the confidence table span.
_LOG_RATIO_LIMIT = 4.0


class Inputs(NamedTuple):
    """Hold what the network sees, and what is needed to finish its answer.

    Attributes:
        arrays: by name, padded, batch 1, as `Backend.run` takes them.
        padding: of the arrays.
        sparse: (H, W) metres.
    """

    arrays: dict[str, np.ndarray]
    padding: Padding
    sparse: Float32Array


class LearnedCompleter(Completer):
    """Complete depth with a network; its confidence comes from the calibration of its file."""

    def __init__(
        self, backend: Backend, settings: ProjectionSettings | None = None, why: str = ""
    ) -> None:
        """Take over an open backend.

        Args:
            backend: closed with the completer.
            settings: depth limits and see-through filter; None takes the defaults.
            why: how network and backend were chosen, for log and diagnostics.
        """
        super().__init__(settings)
        self.why = why
        self.model = backend.model
        self.name = self.model.network
        self.backend = backend.name
        self.device = backend.device
        self._backend = backend
        self._confidence_table = _confidence_table(self.model.calibration)
        self._rays: tuple[PinholeCamera, Float32Array] | None = None
        self._published_prefill: Callable[..., Float32Array] | None = None

    def prepare(self, frame: Frame, sparse: Float32Array) -> Inputs:
        """Fill the holes where the network starts from a fill, and pad everything."""
        height, width = sparse.shape
        padding = Padding.to_multiple(height, width, self.model.multiple)
        arrays: dict[str, np.ndarray] = {}
        for name in self.model.inputs:
            if name == "image":
                arrays[name] = padding.extend_array(frame.image)[None]
            elif name == "sparse":
                arrays[name] = padding.extend_array(sparse, repeat=False)[None, None]
            elif name == "rays":
                arrays[name] = self._padded_rays(frame.camera, padding)
            else:
                arrays[name] = padding.extend_array(self._prefill(sparse))[None, None]
        return Inputs(arrays, padding, sparse)

    def infer(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """Run the network."""
        return self._backend.run(inputs.arrays)

    def refine(self, output: dict[str, np.ndarray], inputs: Inputs) -> Estimate:
        """Do what is left of the network, and judge every pixel."""
        known = None
        if self.model.outputs == GUIDANCE:
            depth, sigma, known = self._correct(output, inputs)
        elif self.model.outputs == COARSE:
            depth = self._refine_coarse(output)
            sigma = self._sigma_of(depth, output["disagreement"][0, 0])
        else:
            depth = output["depth"][0, 0]
            sigma = self._sigma_of(depth, output["disagreement"][0, 0])
        depth, sigma = inputs.padding.crop(depth), inputs.padding.crop(sigma)
        has_estimate = depth > 0
        if known is not None:
            has_estimate &= inputs.padding.crop(known)
        if not inputs.sparse.any():
            has_estimate[:] = False  # a network that saw nothing knows nothing
        return self._judge(depth, sigma, has_estimate, inputs.sparse)

    def close(self) -> None:
        """Give back what the backend opened."""
        self._backend.close()

    def _prefill(self, sparse: Float32Array) -> Float32Array:
        if self.model.outputs == GUIDANCE:
            filled = fill_depth(sparse)
            return np.zeros_like(sparse) if filled is None else filled.depth
        if self._published_prefill is None:
            from ..backends.torch_ import published_prefill

            self._published_prefill = published_prefill(self.name, self.model.settings)
        return self._published_prefill(sparse)

    def _padded_rays(self, camera: PinholeCamera, padding: Padding) -> Float32Array:
        if self._rays is None or self._rays[0] != camera:
            rays = np.nan_to_num(normalised_pixels(camera))
            planes = [padding.extend_array(rays[..., i]) for i in range(2)]
            self._rays = (camera, np.stack(planes)[None])
        return self._rays[1]

    def _correct(
        self, output: dict[str, np.ndarray], inputs: Inputs
    ) -> tuple[Float32Array, Float32Array, np.ndarray]:
        """Finish redc_lite: correct the fill, refine it, scale its sigma."""
        fill = inputs.arrays["prefilled"][0, 0]
        known = fill > 0
        start = fill if known.all() else np.where(known, fill, np.float32(math.exp(CENTRE)))
        coarse = start * _enlarged_exponential(output["correction"][0, 0])
        weight, offset = output["weight"][0], output["offset"][0]
        taps = centred_taps(math.isqrt(len(weight)))
        # The network's offsets are limited, so that nothing fades.
        reach = self.model.settings["max_offset"] + max(max(tap) for tap in taps)
        depth = add_samples(coarse, coarse, weight, offset, taps, reach=reach, repeat_border=True)
        depth = np.maximum(depth, LEAST_SHARE * coarse)
        sigma = depth * _enlarged_exponential(
            output["log_sigma"][0, 0] + np.float32(math.log(self.model.calibration.sigma_scale))
        )
        return depth, sigma, known

    def _refine_coarse(self, output: dict[str, np.ndarray]) -> Float32Array:
        """Finish redc with the published pass."""
        settings = self.model.settings
        coarse = output["coarse"][0, 0]
        return add_samples(
            coarse if settings["residual"] else np.zeros_like(coarse),
            coarse,
            output["weight"][0],
            output["offset"][0],
            published_taps(settings["kernel"]),
            reach=(settings["reach_window"] - 1) / 2,
        )

    def _sigma_of(self, depth: Float32Array, disagreement: Float32Array) -> Float32Array:
        """Estimate sigma where the network has no head for it."""
        calibration = self.model.calibration
        sigma = np.hypot(calibration.disagreement * disagreement, calibration.relative * depth)
        return np.asarray(calibration.sigma_scale * sigma, np.float32)

    def _judge(
        self,
        depth: Float32Array,
        sigma: Float32Array,
        has_estimate: np.ndarray,
        sparse: Float32Array,
    ) -> Estimate:
        """Look the confidence up, and keep it low where nothing can be checked."""
        allowed = np.maximum(depth * np.float32(RIGHT_SHARE), np.float32(RIGHT_METRES))
        # Codes of the table, saturated at its ends; equal steps of the logarithm of the ratio.
        step = 255 / (2 * _LOG_RATIO_LIMIT)
        code = cv2.addWeighted(
            cv2.log(allowed),
            step,
            cv2.log(np.maximum(sigma, np.float32(1e-6))),
            -step,
            _LOG_RATIO_LIMIT * step,
            dtype=cv2.CV_8U,
        )
        confidence = np.asarray(cv2.LUT(code, self._confidence_table), np.float32)
        confidence = cap_unchecked(confidence, sparse)
        if not has_estimate.all():
            depth = np.where(has_estimate, depth, np.float32(0))
            sigma = np.where(has_estimate, sigma, np.float32(np.inf))
            confidence = np.where(has_estimate, confidence, np.float32(0))
        return Estimate(*map(np.ascontiguousarray, (depth, sigma, confidence)))


def _confidence_table(calibration: Calibration) -> Float32Array:
    logarithms = np.linspace(-_LOG_RATIO_LIMIT, _LOG_RATIO_LIMIT, 256)
    return calibration.table(logarithms)[None]


def _enlarged_exponential(logarithm: Float32Array) -> Float32Array:
    """Double the size linearly, as torch does with corners not aligned, and exponentiate."""
    height, width = logarithm.shape
    enlarged = cv2.resize(logarithm, (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.exp(enlarged), np.float32)
