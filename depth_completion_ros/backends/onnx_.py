"""Run exported networks with ONNX Runtime, on the CPU or through its CUDA provider.

Not here: writing such graphs (`networks/export.py`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import BackendError, ModelFileError
from ..networks.model_file import ModelDescription
from .base import Backend


class OnnxBackend(Backend):
    """Run a graph of our own `export` with ONNX Runtime."""

    name = "onnxruntime"

    def __init__(
        self,
        path: Path,
        *,
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
    ) -> None:
        """Open the graph; it runs on what it says it runs on, or not at all.

        Args:
            path: `.onnx` file.
            device: `auto` (CUDA if it really works), `cpu`, `cuda` or `cuda:N`.
            precision: `auto`, or what the file was made with.
            threads: of one run; None takes one less than the machine's cores, but at least two
                where there are two.

        Raises:
            ModelFileError: the file is missing or none of ours.
            BackendError: ONNX Runtime is missing, or cannot use the device or precision.
        """
        if not path.is_file():
            msg = f"{path}: no such file; expected an exported network"
            raise ModelFileError(msg)
        self._session = self._open(path, device, threads)
        metadata = dict(self._session.get_modelmeta().custom_metadata_map)
        self.model = ModelDescription.from_metadata(path, metadata)
        self._check_graph(path)
        self.precision = metadata.get("precision", "fp32")
        if precision not in ("auto", self.precision):
            msg = f"precision: found {precision!r}, but {path} holds {self.precision}"
            raise BackendError(msg)

    def _open(self, path: Path, device: str, threads: int | None) -> Any:
        kind, _, number = device.partition(":")
        if kind not in ("auto", "cpu", "cuda") or (number and not number.isdecimal()):
            msg = f"device: found {device!r}, expected auto, cpu, cuda or cuda:N"
            raise BackendError(msg)
        has_cuda = "CUDAExecutionProvider" in _runtime().get_available_providers()
        if kind == "cuda" or (kind == "auto" and has_cuda):
            # A provider that is compiled in is not yet usable, and a session falls back to the
            # CPU without a word: what the session says it has is what counts.
            session = None
            if has_cuda:
                options = {"device_id": int(number or 0)}
                provider = ("CUDAExecutionProvider", options)
                session = open_session(path, [provider, "CPUExecutionProvider"], threads)
            if session and session.get_providers()[0] == "CUDAExecutionProvider":
                self.device = f"cuda:{number or 0}"
                return session
            if kind == "cuda":
                msg = f"device: found {device!r}, but ONNX Runtime cannot use CUDA here"
                raise BackendError(msg)
        self.device = "cpu"
        return open_session(path, ["CPUExecutionProvider"], threads)

    def _check_graph(self, path: Path) -> None:
        found = tuple(tensor.name for tensor in self._session.get_inputs())
        given = tuple(tensor.name for tensor in self._session.get_outputs())
        if (found, given) != (self.model.inputs, self.model.outputs):
            msg = (
                f"{path}: its graph goes from {' '.join(found)} to {' '.join(given)}, its "
                f"metadata say from {' '.join(self.model.inputs)} to "
                f"{' '.join(self.model.outputs)}; export it again"
            )
            raise ModelFileError(msg)

    def _run(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        feed = {name: arrays[name] for name in self.model.inputs}
        try:
            values = self._session.run(None, feed)
        except Exception as error:  # its exceptions share no base
            first_line = str(error).strip().splitlines()[0]
            msg = f"onnxruntime: {self.model.network} failed ({first_line})"
            raise BackendError(msg) from error
        return dict(zip(self.model.outputs, values, strict=True))


def open_session(path: Path, providers: list[Any], threads: int | None = None) -> Any:
    """Open an ONNX file the way this package runs them all.

    Args:
        path: of any graph.
        providers: as ONNX Runtime takes them, in order of preference.
        threads: as for `OnnxBackend`.

    Raises:
        ModelFileError: the file cannot be opened.
        BackendError: ONNX Runtime is missing.
    """
    runtime = _runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or default_threads()
    # Threads that spin while they wait take the cores that the rest of the robot needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # what goes wrong is raised, too
    try:
        return runtime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # its exceptions share no base
        first_line = str(error).strip().splitlines()[0]
        msg = f"{path}: ONNX Runtime cannot open it ({first_line})"
        raise ModelFileError(msg) from error


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        msg = f"onnxruntime: not installed ({error}); pip install depth_completion[cpu]"
        raise BackendError(msg) from error
    return onnxruntime


def default_threads() -> int:
    """Leave one core to the rest of the robot, but do not crawl on two."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max((cores or 1) - 1, min(cores or 1, 2))
