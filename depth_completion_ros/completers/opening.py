"""Choose and open a completer by name.

Not here: what completers do. Look next at `base.py` for their interface.
"""

from __future__ import annotations

from ..errors import BackendError, InputError
from ..settings import ProjectionSettings
from .base import Completer

# What `auto` means while no network file comes with the package.
_AUTO = "fill"
_KNOWN = ("fill",)


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
        network: completer by name, or `auto`. What is asked for by name never becomes another.
        backend: runtime, or `auto` for the fastest that really works here.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: `auto`, `fp32`, `fp16`, `bf16` or `int8`.
        weights: path of a weights file; None or empty takes the shipped one.
        settings: depth limits and see-through filter; None takes the defaults.

    Returns:
        A completer that is ready to use, to be closed by the caller.

    Raises:
        InputError: no such network, or weights for a method that has none.
        BackendError: the runtime, device or precision cannot run it.
    """
    name = _AUTO if network == "auto" else network
    if name not in _KNOWN:
        msg = f"network: found {network!r}, expected auto or one of {', '.join(_KNOWN)}"
        raise InputError(msg)
    return _open_fill(backend, device, precision, weights, settings)


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
