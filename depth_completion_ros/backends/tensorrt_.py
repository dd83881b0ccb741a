"""Run exported networks with TensorRT, or with TensorRT-RTX where that is what is installed.

An engine is built once for an ONNX file, runtime, kind of GPU, precision and size, and kept in a
cache. Building with TensorRT-RTX needs no GPU; running needs one and its driver.

Not here: the graphs (`networks/export.py`, whole ones `networks/grid_refinement.py`) and which
backend is taken (`completers/opening.py`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import BackendError, ModelFileError
from ..networks.model_file import ModelDescription
from .base import Backend
from .torch_ import has_nvidia_device, require_torch

_log = logging.getLogger(__name__)

_MAGIC = b"depth_completion engine 1\n"
_MAX_HEADER = 10_000_000  # bytes

# Share of the root mean square of an output that its error may have. Engines multiply with ten
# bits even in fp32 (TF32).
_ALLOWED_ERROR = {"fp32": 2e-3, "fp16": 2e-2, "bf16": 1e-1}
# Values of each output that are kept to compare with.
_KEPT_VALUES = 1000

Arrays = Mapping[str, np.ndarray]


class Runtime(NamedTuple):
    """Hold the module that builds and runs engines, `tensorrt` or `tensorrt_rtx`."""

    module: Any
    name: str  # with its version: engines of another one cannot be read


def find_runtime() -> Runtime:
    """Import TensorRT, or else TensorRT-RTX.

    Raises:
        BackendError: neither is installed.
    """
    reasons = []
    for name in ("tensorrt", "tensorrt_rtx"):
        try:
            module = importlib.import_module(name)
        except (ImportError, OSError) as error:  # a library of it may be missing
            reasons.append(f"{name}: {error}")
            continue
        return Runtime(module, f"{name} {module.__version__}")
    msg = f"tensorrt: not installed ({'; '.join(reasons)}); pip install depth_completion[tensorrt]"
    raise BackendError(msg)


@dataclass(frozen=True)
class EngineKey:
    """Say what an engine was built from and for; one that differs in anything is another.

    Attributes:
        onnx_sha256: of the exported file.
        runtime: name and version.
        capability: compute capability of the GPU, such as `8.6`.
        precision: of the graph.
        size: height and width in pixels.
    """

    onnx_sha256: str
    runtime: str
    capability: str
    precision: str
    size: tuple[int, int]

    @property
    def file_name(self) -> str:
        """Name of the engine in the cache."""
        text = json.dumps(dataclasses.astuple(self))
        return f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.engine"

    def differences(self, other: EngineKey) -> str:
        """Tell in what another key differs, as `found, expected` of each field."""
        pairs = zip(dataclasses.asdict(self).items(), dataclasses.astuple(other), strict=True)
        return ", ".join(f"{name} {b} instead of {a}" for (name, a), b in pairs if a != b)


@dataclass(frozen=True)
class EngineFile:
    """Hold an engine and what must be known about it.

    Attributes:
        key: what it was built from and for.
        metadata: of the ONNX file.
        expected: some values of each output for `probe_arrays`, by the network in torch or ONNX
            Runtime; empty if it was built without.
        engine: what the runtime reads.
    """

    key: EngineKey
    metadata: Mapping[str, str]
    expected: Mapping[str, list[float]]
    engine: bytes

    def write(self, path: Path) -> None:
        """Write the file whole or not at all, whoever else writes it at the same time."""
        header = {
            "key": dataclasses.asdict(self.key),
            "metadata": dict(self.metadata),
            "expected": dict(self.expected),
            "sha256": hashlib.sha256(self.engine).hexdigest(),
        }
        text = json.dumps(header).encode()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with partial.open("wb") as file:
                file.write(_MAGIC + len(text).to_bytes(8, "little") + text + self.engine)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: Path) -> EngineFile:
        """Read a file and make sure that it is whole.

        Raises:
            ModelFileError: the file is missing, damaged or none of ours.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            msg = f"{path}: {error.strerror or error}; expected an engine"
            raise ModelFileError(msg) from error
        start = len(_MAGIC) + 8
        length = int.from_bytes(data[len(_MAGIC) : start], "little")
        if not data.startswith(_MAGIC) or length > _MAX_HEADER:
            msg = f"{path}: no engine of ours; expected a file written by depth_completion export"
            raise ModelFileError(msg)
        engine = data[start + length :]
        try:
            header = json.loads(data[start : start + length])
            key = EngineKey(**{**header["key"], "size": tuple(header["key"]["size"])})
            is_whole = header["sha256"] == hashlib.sha256(engine).hexdigest()
            metadata, expected = dict(header["metadata"]), dict(header["expected"])
        except (ValueError, KeyError, TypeError):
            is_whole = False
        if not is_whole:
            msg = f"{path}: the engine is damaged or cut off; delete it, it will be built again"
            raise ModelFileError(msg)
        return cls(key, metadata, expected, engine)


def build_engine(onnx: Path, size: tuple[int, int], capability: str, runtime: Runtime) -> bytes:
    """Build an engine; with TensorRT-RTX this needs no GPU.

    Args:
        onnx: exported network.
        size: height and width in pixels, for a graph of any size.
        capability: compute capability of the GPU it is for, such as `8.6`. TensorRT builds for
            the GPU of this machine alone.
        runtime: from `find_runtime`.

    Returns:
        What the runtime reads.

    Raises:
        ModelFileError: the file is missing, or the runtime cannot read the graph.
        BackendError: the runtime does not know the GPU or cannot build for it.
    """
    trt = runtime.module
    if not onnx.is_file():
        msg = f"{onnx}: no such file; expected an exported network"
        raise ModelFileError(msg)
    log = _new_log(trt)
    builder = trt.Builder(log)
    # Types are those of the graph: what must stay in float32, such as positions, does.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx)):
        reason = parser.get_error(0).desc() if parser.num_errors else log.reason
        msg = f"{onnx}: {runtime.name} cannot read it ({_first_line(reason)})"
        raise ModelFileError(msg)
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        sides = iter(size)
        tensor.shape = [next(sides, n) if n < 0 else n for n in tensor.shape]
    config = builder.create_builder_config()
    if hasattr(trt, "ComputeCapability"):
        config.num_compute_capabilities = 1
        config.set_compute_capability(_capability(runtime, capability), 0)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        msg = f"{onnx}: {runtime.name} cannot build an engine ({log.reason})"
        raise BackendError(msg)
    return bytes(engine)


def cached_engine(
    onnx: Path,
    size: tuple[int, int],
    capability: str,
    folder: Path,
    reference: Callable[[Arrays], Arrays] | None = None,
    runtime: Runtime | None = None,
) -> Path:
    """Give the engine of an exported network; build it if it is not there, and say so.

    Args:
        onnx, size, capability: as for `build_engine`.
        folder: the cache.
        reference: runs the network, to compare the engine with whenever it is opened.
        runtime: None takes what is installed.

    Returns:
        Path of the engine's file.

    Raises:
        ModelFileError, BackendError: as `build_engine`.
    """
    runtime = runtime or find_runtime()
    metadata = _onnx_metadata(onnx)
    key = EngineKey(
        hashlib.sha256(onnx.read_bytes()).hexdigest(),
        runtime.name,
        capability,
        metadata.get("precision", "fp32"),
        (int(size[0]), int(size[1])),
    )
    path = folder / key.file_name
    why = "there is none"
    if path.is_file():
        try:
            if EngineFile.read(path).key == key:
                return path
            why = "the one that is there was renamed"
        except ModelFileError as error:
            why = str(error)
    else:
        others = [_differences(key, other) for other in sorted(folder.glob("*.engine"))]
        closest = min(
            filter(None, others), key=lambda text: text.count(" instead of "), default=""
        )
        why = f"the closest one has {closest}" if closest else why
    _log.warning("building an engine of %s for compute capability %s: %s", onnx, capability, why)
    engine = build_engine(onnx, key.size, capability, runtime)
    expected = {}
    if reference is not None:
        inputs = tuple(metadata.get("inputs", "").split())
        expected = kept_values(reference(probe_arrays(inputs, *key.size)))
    EngineFile(key, metadata, expected, engine).write(path)
    return path


def probe_arrays(inputs: tuple[str, ...], height: int, width: int) -> dict[str, np.ndarray]:
    """Make inputs to compare an engine on, the same on every machine and with every version.

    Args:
        inputs: names, of `model_file.INPUTS`.
        height, width: pixels.

    Returns:
        By name, batch 1: image (1, H, W, 3) uint8, sparse and prefilled (1, 1, H, W) and rays
        (1, 2, H, W) float32.
    """
    v, u = np.mgrid[:height, :width]
    noise = (u * 7919 + v * 104729) % 1009
    depth = (50 - 47 * v / height + noise / 1009).astype(np.float32)
    arrays = {
        "image": np.stack([noise % 256, (u + v) % 256, u * 3 % 256], -1).astype(np.uint8),
        "sparse": np.where(noise < 100, depth, np.float32(0))[None],
        "rays": np.stack((u / width - 0.5, v / height - 0.5)).astype(np.float32),
        "prefilled": (depth + np.float32(0.3))[None],
    }
    return {name: np.ascontiguousarray(arrays[name])[None] for name in inputs}


def kept_values(outputs: Arrays) -> dict[str, list[float]]:
    """Pick the values of each output that are compared, evenly from all of it."""
    kept = {}
    for name, output in outputs.items():
        flat = np.asarray(output, np.float32).ravel()
        kept[name] = flat[:: max(1, len(flat) // _KEPT_VALUES)].tolist()
    return kept


def check_values(
    path: Path, precision: str, found: Mapping[str, list[float]], expected: Mapping[str, Any]
) -> None:
    """Make sure that an engine computes what the network does.

    Args:
        path: of the engine, for the message.
        precision: of the engine.
        found, expected: by output, from `kept_values`.

    Raises:
        BackendError: an output differs by more than the precision explains, or is missing.
    """
    share = _ALLOWED_ERROR[precision]
    for name, values in expected.items():
        b = np.asarray(values, np.float64)
        a = np.asarray(found.get(name, ()), np.float64)
        if a.shape != b.shape:
            msg = f"{path}: {name} has {len(a)} values, expected {len(b)}; delete the engine"
            raise BackendError(msg)
        error, size = (float(np.sqrt(np.mean(np.square(x)))) for x in (a - b, b))
        if not error <= share * size + 1e-6:
            msg = (
                f"{path}: the engine's {name} is wrong by {error:.3g} (rms), expected at most "
                f"{share * size:.3g} in {precision}, where the network's is {size:.3g}; delete "
                "the engine, or use another backend"
            )
            raise BackendError(msg)


class TensorRTBackend(Backend):
    """Run an exported network on a CUDA device, with one engine for each size it meets."""

    name = "tensorrt"

    def __init__(
        self,
        path: Path,
        *,
        device: str = "auto",
        precision: str = "auto",
        folder: Path | None = None,
        reference: Callable[[Arrays], Arrays] | None = None,
    ) -> None:
        """Open a network; its engines are opened, or built, when the first frame of a size comes.

        Args:
            path: `.onnx` of our export, or an `.engine`, which is opened at once.
            device: `auto`, `cuda` or `cuda:N`.
            precision: `auto`, or what the file was made with.
            folder: the cache; None takes the user's.
            reference: runs the network, to compare a new engine with whenever it is opened.

        Raises:
            ModelFileError: the file is damaged or none of ours.
            BackendError: there is no runtime or GPU for it, or an engine's output is wrong.
        """
        runtime = find_runtime()
        file = EngineFile.read(path) if path.suffix == ".engine" else None
        if file is not None:
            _check_runnable(path, file, runtime)
        self._device = cuda_device(device)
        self.device = str(self._device)
        self._path, self._runtime, self._reference = path, runtime, reference
        self._folder = folder or default_folder()
        self._engines: dict[tuple[int, int], Engine] = {}
        metadata = file.metadata if file else _onnx_metadata(path)
        self.model = ModelDescription.from_metadata(path, metadata)
        if file is not None:
            self.model = dataclasses.replace(self.model, size=file.key.size)
            self._engines[file.key.size] = Engine(path, self.model, self._device)
        elif hasattr(runtime.module, "ComputeCapability"):
            _capability(runtime, _torch_capability(self._device))
        self.precision = metadata.get("precision", "fp32")
        if precision not in ("auto", self.precision):
            msg = f"precision: found {precision!r}, but {path} holds {self.precision}"
            raise BackendError(msg)

    def engine_for(self, height: int, width: int) -> Engine:
        """Give the engine of a size in pixels; building one takes seconds to minutes."""
        size = (height, width)
        if size not in self._engines:
            path = cached_engine(
                self._path,
                size,
                _torch_capability(self._device),
                self._folder,
                self._reference,
                self._runtime,
            )
            self._engines[size] = Engine(path, self.model, self._device)
        return self._engines[size]

    def close(self) -> None:
        """Give back engines and buffers."""
        self._engines.clear()

    def _run(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        height, width = arrays["sparse"].shape[2:]
        return self.engine_for(height, width).run(arrays)


class Engine:
    """Run one engine; its buffers are torch tensors, by the names of its arrays."""

    def __init__(self, path: Path, model: ModelDescription, device: Any) -> None:
        """Open an engine and compare it with the network it was built from.

        Args:
            path: from `cached_engine`.
            model: of the network.
            device: torch's, a CUDA device.

        Raises:
            ModelFileError: the file is damaged or none of ours.
            BackendError: it cannot run here, or its output is wrong.
        """
        import torch

        self._torch, self._device, self._model = torch, device, model
        file, runtime = EngineFile.read(path), find_runtime()
        _check_runnable(path, file, runtime)
        log = _new_log(runtime.module)
        with torch.cuda.device(device):
            self._opener = runtime.module.Runtime(log)
            self._engine = self._opener.deserialize_cuda_engine(file.engine)
            self._context = self._engine and self._engine.create_execution_context()
            if self._context is None:
                msg = f"{path}: {runtime.name} cannot open it ({log.reason})"
                raise BackendError(msg)
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self.buffers = self._bind(runtime.module)
        if file.expected:
            found = self.run(probe_arrays(model.inputs, *file.key.size))
            check_values(path, file.key.precision, kept_values(found), file.expected)

    def run(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Run the engine on arrays of the host; see `Backend.run`."""
        torch = self._torch
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            for name in self._model.inputs:
                self.buffers[name].copy_(torch.from_numpy(arrays[name]))
            self.enqueue()
            outputs = {name: self.buffers[name].float().cpu() for name in self._model.outputs}
        return {name: output.numpy() for name, output in outputs.items()}

    def enqueue(self) -> None:
        """Run the engine on torch's current stream, from `buffers` to `buffers`."""
        stream = self._torch.cuda.current_stream(self._device)
        if not self._context.execute_async_v3(stream.cuda_stream):
            msg = f"tensorrt: {self._model.network} failed on {self._device}"
            raise BackendError(msg)

    def _bind(self, trt: Any) -> dict[str, Any]:
        """Allocate every input and output once; the addresses stay."""
        torch = self._torch
        kinds = {
            trt.DataType.FLOAT: torch.float32,
            trt.DataType.HALF: torch.float16,
            trt.DataType.UINT8: torch.uint8,
        }
        buffers = {}
        for i in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(i)
            shape = tuple(self._engine.get_tensor_shape(name))
            kind = kinds[self._engine.get_tensor_dtype(name)]
            buffers[name] = torch.empty(shape, dtype=kind, device=self._device)
            self._context.set_tensor_address(name, buffers[name].data_ptr())
        return buffers


def default_folder() -> Path:
    """Give the user's cache of engines, as the XDG base directories say."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "depth_completion" / "engines"


def _check_runnable(path: Path, file: EngineFile, runtime: Runtime) -> None:
    if runtime.name != file.key.runtime:
        msg = f"{path}: built by {file.key.runtime}, found {runtime.name}; build it again"
        raise BackendError(msg)
    reason = why_not_runnable(runtime, file.engine)
    if reason:
        msg = f"{path}: cannot run here ({reason}); use another backend"
        raise BackendError(msg)


def why_not_runnable(runtime: Runtime, engine: bytes) -> str:
    """Tell why an engine cannot run on this machine; empty if it can.

    TensorRT-RTX is asked itself; TensorRT has no such question, so torch is.
    """
    trt = runtime.module
    log = _new_log(trt)
    opener = trt.Runtime(log)
    if hasattr(opener, "get_engine_validity"):
        validity, _ = opener.get_engine_validity(engine)
        if validity == trt.EngineValidity.INVALID:
            return str(log.reason)
    import torch

    return "" if torch.cuda.is_available() else "torch sees no CUDA device"


def cuda_device(device: str) -> Any:
    """Give torch's device of a name.

    Raises:
        BackendError: it is no CUDA device, or torch sees none.
    """
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cuda") or (number and not number.isdecimal()):
        msg = f"device: found {device!r}, but TensorRT runs on cuda or cuda:N only"
        raise BackendError(msg)
    if not has_nvidia_device():
        msg = f"device: found {device!r}, but no NVIDIA device, which TensorRT needs"
        raise BackendError(msg)
    require_torch()
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) >= count:
        msg = (
            f"device: found {device!r}, but torch sees {count} CUDA devices; TensorRT needs an "
            "NVIDIA GPU, its driver and a torch built for CUDA"
        )
        raise BackendError(msg)
    return torch.device("cuda", int(number or 0))


def _torch_capability(device: Any) -> str:
    import torch

    major, minor = torch.cuda.get_device_capability(device)
    return f"{major}.{minor}"


def _capability(runtime: Runtime, capability: str) -> Any:
    kinds = runtime.module.ComputeCapability
    known = {name[2:]: name for name in dir(kinds) if name.startswith("SM")}
    digits = capability.replace(".", "")
    if digits not in known:
        names = sorted((f"{text[:-1]}.{text[-1]}" for text in known), key=float)
        msg = (
            f"{runtime.name}: found a GPU of compute capability {capability}, expected one of "
            f"{', '.join(names)}; use the torch backend"
        )
        raise BackendError(msg)
    return getattr(kinds, known[digits])


def _differences(key: EngineKey, path: Path) -> str:
    try:
        return key.differences(EngineFile.read(path).key)
    except ModelFileError:
        return ""


def _onnx_metadata(path: Path) -> dict[str, str]:
    if not path.is_file():
        msg = f"{path}: no such file; expected an exported network"
        raise ModelFileError(msg)
    try:
        import onnx
    except ImportError as error:
        msg = f"tensorrt: onnx is missing ({error}); pip install depth_completion[tensorrt]"
        raise BackendError(msg) from error
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's errors share no base
        msg = f"{path}: no ONNX file ({_first_line(str(error))})"
        raise ModelFileError(msg) from error
    return {entry.key: entry.value for entry in model.metadata_props}


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0] if lines else "no reason given"


def _new_log(trt: Any) -> Any:
    """Make a log that keeps the last error, as the runtime's exceptions do not tell it."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.reason = "no reason given"

        def log(self, severity: Any, text: str) -> None:
            worst = (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR)
            if severity in worst:
                self.reason = _first_line(text)
            _log.debug("%s", text)

    return Log()
