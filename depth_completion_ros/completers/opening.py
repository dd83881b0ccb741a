"""Choose and open a completer by name.

Not here: what completers do. Look next at `base.py` for their interface.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..backends.base import Backend
from ..errors import BackendError, DepthCompletionError, InputError, ModelFileError
from ..networks.registry import NETWORKS
from ..settings import ProjectionSettings
from ..share import find_share_file
from .base import Completer

# What `auto` takes if it can, and otherwise.
_PREFERRED, _FALLBACK = "redc_lite", "fill"
_SHIPPED = (".onnx", ".safetensors")
_BACKENDS = ("tensorrt", "torch", "onnxruntime", "openvino")


class _NotForThisFileError(BackendError):
    """A backend cannot read this kind of file, or is not there at all."""


class _Wish(NamedTuple):
    """Hold what was asked for."""

    network: str
    backend: str
    device: str
    precision: str
    weights: Path | None


def open_completer(
    network: str = "auto",
    *,
    backend: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    weights: str | None = None,
    settings: ProjectionSettings | None = None,
) -> Completer:
    """Open what turns frames into dense depth; the one door for node, command line and notebook.

    Args:
        network: completer by name, or `auto`: redc_lite if it can run here, else fill. What is
            asked for by name never becomes another.
        backend: runtime by name, or `auto` for the first that really works of tensorrt, torch on
            CUDA, onnxruntime, torch on the CPU.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: `auto`, `fp32`, `fp16`, `bf16` or `int8`.
        weights: path of a weights file (`.onnx`, `.safetensors`, or a published checkpoint); None
            or empty takes the shipped one.
        settings: depth limits and see-through filter; None takes the defaults.

    Returns:
        A completer that is ready to use, to be closed by the caller; its `why` tells how it was
        chosen.

    Raises:
        InputError: no such network, or weights for a method that has none.
        ModelFileError: the weights are missing or do not fit.
        BackendError: the runtime, device or precision cannot run it.
    """
    known = (_FALLBACK, *NETWORKS)
    if network != "auto" and network not in known:
        msg = f"network: found {network!r}, expected auto or one of {', '.join(known)}"
        raise InputError(msg)
    if network == _FALLBACK:
        return _open_fill(backend, device, precision, weights, settings)
    wish = _Wish(network, backend, device, precision, Path(weights) if weights else None)
    if network != "auto" or weights:
        # A network was named, so that it opens or says why not.
        return _open_network(wish, settings)
    try:
        return _open_network(wish, settings)
    except DepthCompletionError as error:
        reason = str(error)
    try:
        # A backend, device or precision that was named is refused here if it is none of fill's.
        completer = _open_fill(backend, device, precision, None, settings)
    except DepthCompletionError as error:
        msg = f"{error}; {_PREFERRED} cannot run either: {reason}"
        raise BackendError(msg) from None
    completer.why = f"{_FALLBACK}, because {_PREFERRED} cannot run: {reason}"
    return completer


def _open_network(wish: _Wish, settings: ProjectionSettings | None) -> Completer:
    opened, why = _open_backend(wish)
    if wish.network not in ("auto", opened.model.network):
        opened.close()
        msg = (
            f"{wish.weights}: found weights of {opened.model.network}, expected those of "
            f"{wish.network}"
        )
        raise ModelFileError(msg)
    from .learned import LearnedCompleter

    return LearnedCompleter(opened, settings, why)


def _open_backend(wish: _Wish) -> tuple[Backend, str]:
    """Open the first backend that really runs, and tell what kept those before from it."""
    _require_weights(wish)
    if wish.backend != "auto":
        if wish.backend not in _BACKENDS:
            msg = f"backend: found {wish.backend!r}, expected auto or {', '.join(_BACKENDS)}"
            raise BackendError(msg)
        opened = _OPENERS[wish.backend](wish)
        return opened, f"{opened.model.network} on {wish.backend}, as asked for"
    reasons: list[str] = []
    errors: list[DepthCompletionError] = []
    for name, opener in _automatic_openers():
        try:
            opened = opener(wish)
        except (BackendError, ModelFileError) as error:
            reasons.append(f"not {name}: {error}")
            errors.append(error)
        else:
            found = f"{opened.model.network} on {opened.name} ({opened.device})"
            return opened, "; ".join((found, *reasons))
    # What says most is why a backend refused a file that it should have been able to read.
    telling = [error for error in errors if not isinstance(error, _NotForThisFileError)]
    if len(telling) == 1:
        raise telling[0]
    raise BackendError("; ".join(reasons))


def _automatic_openers() -> Iterator[tuple[str, Callable[[_Wish], Backend]]]:
    yield "tensorrt", _leave_tensorrt
    yield "torch on CUDA", _open_torch_on_cuda
    yield "onnxruntime", _open_onnxruntime
    yield "torch", _open_torch


def _open_onnxruntime(wish: _Wish) -> Backend:
    suffix = ".int8.onnx" if wish.precision == "int8" else ".onnx"
    path = _weights_file(wish, "onnxruntime", (suffix, ".onnx"))
    from ..backends.onnx_ import OnnxBackend

    return OnnxBackend(path, device=wish.device, precision=wish.precision)


def _open_torch(wish: _Wish) -> Backend:
    suffixes = (".safetensors", ".pt", ".pth", ".tar", ".ckpt")
    path = _weights_file(wish, "torch", suffixes)
    from ..backends.torch_ import TorchBackend

    network = None if wish.network == "auto" else wish.network
    return TorchBackend.open(path, network, device=wish.device, precision=wish.precision)


def _open_torch_on_cuda(wish: _Wish) -> Backend:
    from ..backends.torch_ import has_nvidia_device

    if wish.device == "cpu":
        msg = f"device: found {wish.device!r}"
        raise _NotForThisFileError(msg)
    if not has_nvidia_device():
        msg = "there is no NVIDIA device"
        raise _NotForThisFileError(msg)
    return _open_torch(wish._replace(device="cuda" if wish.device == "auto" else wish.device))


def _open_tensorrt(wish: _Wish) -> Backend:
    path = _weights_file(wish, "tensorrt", (".engine", ".onnx"))
    from ..backends.tensorrt_ import TensorRTBackend

    return TensorRTBackend(path, device=wish.device, precision=wish.precision)


def _leave_tensorrt(wish: _Wish) -> Backend:
    msg = "by itself, as nobody would wait while its engine is built; ask for it by name"
    raise _NotForThisFileError(msg)


def _open_openvino(wish: _Wish) -> Backend:
    msg = "there is no openvino backend in this version; expected onnxruntime or torch"
    raise _NotForThisFileError(msg)


_OPENERS: dict[str, Callable[[_Wish], Backend]] = {
    "tensorrt": _open_tensorrt,
    "torch": _open_torch,
    "onnxruntime": _open_onnxruntime,
    "openvino": _open_openvino,
}


def _require_weights(wish: _Wish) -> None:
    """Make sure that there is a file at all, before backends are asked one by one.

    Raises:
        ModelFileError: there is none.
    """
    if wish.weights is not None:
        if not wish.weights.is_file():
            msg = f"{wish.weights}: no such file; expected weights"
            raise ModelFileError(msg)
        return
    network = _PREFERRED if wish.network == "auto" else wish.network
    for suffix in _SHIPPED:
        with contextlib.suppress(InputError):
            find_share_file(f"models/{network}{suffix}")
            return
    msg = (
        f"{network}: no weights of it come with this package; give a file (.onnx, .safetensors or "
        "a published checkpoint) as weights"
    )
    raise ModelFileError(msg)


def _weights_file(wish: _Wish, backend: str, suffixes: tuple[str, ...]) -> Path:
    """Find the file a backend can read: the given one, or the shipped one."""
    if wish.weights is None:
        network = _PREFERRED if wish.network == "auto" else wish.network
        try:
            return find_share_file(f"models/{network}{suffixes[0]}")
        except InputError:
            msg = (
                f"models/{network}{suffixes[0]}: not found; expected a file that {backend} can "
                "read, or one given as weights"
            )
            raise ModelFileError(msg) from None
    if wish.weights.suffix not in suffixes:
        msg = (
            f"weights: found {str(wish.weights)!r}, but {backend} reads "
            f"{' or '.join(dict.fromkeys(suffixes))}"
        )
        raise _NotForThisFileError(msg)
    return wish.weights


def _open_fill(
    backend: str,
    device: str,
    precision: str,
    weights: str | None,
    settings: ProjectionSettings | None,
) -> Completer:
    if weights:
        msg = f"weights: found {weights!r}, but fill has no weights; leave them out"
        raise InputError(msg)
    for option, value, possible in (
        ("backend", backend, ("auto", "opencv")),
        ("device", device, ("auto", "cpu")),
        ("precision", precision, ("auto", "fp32")),
    ):
        if value not in possible:
            msg = f"{option}: found {value!r}, but fill runs with {' or '.join(possible)} only"
            raise BackendError(msg)
    from .classical import FillCompleter

    return FillCompleter(settings)
