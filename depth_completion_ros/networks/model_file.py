"""What a model file says about itself: network, form of the graph, calibrated confidence.

The same text metadata are in `.safetensors` and `.onnx` files. Reading them needs neither torch
nor onnx. Not here: the weights (`checkpoint.py`) and writing graphs (`export.py`).
"""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Float32Array
from ..errors import ModelFileError

# What a graph may ask for and give; batch 1, height and width a multiple of `multiple`.
INPUTS = ("image", "sparse", "rays", "prefilled")
WHOLE = ("depth", "disagreement")
# redc_lite: at half size, what corrects and refines the filled map.
GUIDANCE = ("correction", "log_sigma", "weight", "offset")
# redc: the coarse depth and what refines it.
COARSE = ("coarse", "disagreement", "weight", "offset")
_FORMS = (WHOLE, GUIDANCE, COARSE)

# A depth is right if its error is at most the larger of the two; the contract's confidence.
RIGHT_METRES, RIGHT_SHARE = 0.3, 0.05

_MAX_HEADER = 100_000_000  # bytes, the safetensors format's own limit


@dataclass(frozen=True)
class Calibration:
    """Turn what a network says about its error into sigma and confidence.

    Attributes:
        sigma_scale: factor on the network's sigma.
        disagreement, relative: without a sigma head, sigma before the factor is
            hypot(disagreement * that of the estimates, relative * depth).
        ratio: (n,) rising, allowed error over sigma.
        confidence: (n,) share of right pixels at that ratio; linear in its logarithm between.
    """

    sigma_scale: float = 1.0
    disagreement: float = 1.0
    relative: float = 0.05
    # Uncalibrated, errors are taken to be Laplace's: 1 - exp(-sqrt(2) ratio).
    ratio: tuple[float, ...] = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0)
    confidence: tuple[float, ...] = (
        0.132, 0.246, 0.432, 0.572, 0.677, 0.757, 0.88, 0.941, 0.986, 0.999,
    )  # fmt: skip

    def __post_init__(self) -> None:
        """Refuse a table that is none.

        Raises:
            ModelFileError: lengths, order or values cannot be.
        """
        object.__setattr__(self, "ratio", tuple(map(float, self.ratio)))
        object.__setattr__(self, "confidence", tuple(map(float, self.confidence)))
        ratio, confidence = np.array(self.ratio), np.array(self.confidence)
        fits = (
            len(ratio) == len(confidence) >= 2
            and np.all(np.isfinite(ratio))
            and ratio[0] > 0
            and np.all(np.diff(ratio) > 0)
            and np.all((confidence >= 0) & (confidence <= 1))
            and self.sigma_scale > 0
        )
        if not fits:
            msg = (
                f"calibration: found {len(ratio)} ratios and {len(confidence)} confidences, "
                "expected as many of each, rising from above 0, and confidences from 0 to 1"
            )
            raise ModelFileError(msg)

    def table(self, logarithms: Any) -> Float32Array:
        """Give the confidence at logarithms of the ratio of allowed error and sigma."""
        known = np.log(self.ratio)
        return np.asarray(np.interp(logarithms, known, self.confidence), np.float32)


@dataclass(frozen=True)
class ModelDescription:
    """Hold the metadata of a model file.

    Attributes:
        network: name in the registry.
        settings: fields of its settings class.
        inputs, outputs: of the graph, empty for weights alone.
        multiple: height and width must be multiples of it, in pixels.
        size: (height, width) a graph is bound to, or () for any.
        calibration: of sigma and confidence.
        text: all metadata as they are.
    """

    network: str
    settings: dict[str, Any]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    multiple: int = 1
    size: tuple[int, ...] = ()
    calibration: Calibration = Calibration()
    text: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_metadata(cls, path: Path, metadata: Mapping[str, str]) -> ModelDescription:
        """Read metadata and make sure they can be used.

        Args:
            path: of the file, for messages.
            metadata: text by name.

        Raises:
            ModelFileError: something is missing or cannot be.
        """
        for name in ("network", "settings", "version"):
            if name not in metadata:
                msg = (
                    f"{path}: no {name} in its metadata; expected a file written by "
                    "depth_completion train or export"
                )
                raise ModelFileError(msg)
        try:
            calibration = Calibration(**json.loads(metadata.get("calibration", "{}")))
            description = cls(
                metadata["network"],
                dict(json.loads(metadata["settings"])),
                tuple(metadata.get("inputs", "").split()),
                tuple(metadata.get("outputs", "").split()),
                int(metadata.get("multiple", "1")),
                tuple(int(n) for n in metadata.get("size", "").split()),
                calibration,
                dict(metadata),
            )
        except (ValueError, TypeError) as error:
            msg = f"{path}: its metadata cannot be read ({error})"
            raise ModelFileError(msg) from error
        except ModelFileError as error:
            msg = f"{path}: {error}"
            raise ModelFileError(msg) from None
        description._check_form(path)
        return description

    def _check_form(self, path: Path) -> None:
        if not self.outputs:
            return
        if self.outputs not in _FORMS or not set(self.inputs) <= set(INPUTS):
            msg = (
                f"{path}: found a graph from {' '.join(self.inputs)} to "
                f"{' '.join(self.outputs)}, which this version cannot use; export it again"
            )
            raise ModelFileError(msg)


def calibration_text(calibration: Calibration) -> str:
    """Write a calibration as metadata."""
    return json.dumps(dataclasses.asdict(calibration))


def read_safetensors_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a `.safetensors` file, and nothing else of it.

    Raises:
        ModelFileError: the file is missing or is no such file.
    """
    try:
        with path.open("rb") as file:
            head = file.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else _MAX_HEADER + 1
            header = json.loads(file.read(length)) if length <= _MAX_HEADER else None
    except OSError as error:
        msg = f"{path}: {error.strerror or error}; expected a model file"
        raise ModelFileError(msg) from error
    except ValueError:
        header = None
    if not isinstance(header, dict):
        msg = f"{path}: no .safetensors file; is it cut off or of another format?"
        raise ModelFileError(msg)
    metadata = header.get("__metadata__", {})
    return {str(name): str(value) for name, value in metadata.items()}
