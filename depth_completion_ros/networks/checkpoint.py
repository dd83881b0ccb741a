"""Weights in files: published checkpoints, read safely, and model files of our own.

Not here: exported networks (`export`). Unpickling runs no code of a file: only tensors, plain
values and the few classes that published checkpoints are known to hold are let through.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, ModelFileError
from ..share import __version__
from .network import DepthNetwork
from .registry import build_network, name_of

# Where the layouts keep the weights: ENet, PENet and ReDC; LRRU's training; others.
_PLACES = ("model", "net", "state_dict")


# ENet's and ReDC's checkpoints hold their best metrics as an instance of this class.
_Result = type("Result", (), {"__module__": "metrics", "__doc__": "Stand in for metrics.Result."})


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the weights of a published checkpoint, whatever layout it has.

    Args:
        path: file written by `torch.save`, whatever its suffix: a state dict, or a dict that
            holds one as `model`, `net` or `state_dict`; names may start with `module.`.

    Returns:
        Tensors by name, on the CPU, without `module.`.

    Raises:
        ModelFileError: the file cannot be read, or holds more than weights and plain values.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace, _Result]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        msg = f"{path}: {error.strerror or error}; expected a checkpoint of torch"
        raise ModelFileError(msg) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        first_line = _reason(str(error))
        msg = f"{path}: no checkpoint that can be read safely ({first_line})"
        raise ModelFileError(msg) from error
    place = next((p for p in _PLACES if isinstance(_get(content, p), dict)), None)
    tensors = content[place] if place else content
    if (
        not isinstance(tensors, dict)
        or not tensors
        or not all(map(torch.is_tensor, tensors.values()))
    ):
        found = (
            ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        )
        msg = f"{path}: found {found}, expected tensors or a dict of them as {', '.join(_PLACES)}"
        raise ModelFileError(msg)
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def load_published(network: DepthNetwork, path: Path) -> None:
    """Load a published checkpoint into the network it belongs to.

    Args:
        network: in the form the weights were published for; it is changed in place.
        path: as for `read_checkpoint`.

    Raises:
        ModelFileError: a tensor is missing, superfluous or of another shape.
    """
    tensors = read_checkpoint(path)
    unused = network.unused_tensors
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(unused)}
    _load(network, tensors, path)


def save_network(
    network: DepthNetwork, path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a model file: weights, the network's name and settings, and what else belongs to it.

    Args:
        network: one of the registry's.
        path: ends in `.safetensors`; written whole or not at all.
        metadata: normalisation, calibration, recipe, ... as text.

    Raises:
        InputError: the network is not in the registry or cannot be described by its settings.
    """
    from safetensors.torch import save_file

    name, settings = name_of(network), dataclasses.asdict(network.settings)
    with torch.device("meta"):
        rebuilt = build_network(name, **settings).state_dict()
    tensors = {
        key: tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()
    }
    if {k: t.shape for k, t in rebuilt.items()} != {k: t.shape for k, t in tensors.items()}:
        msg = f"{name}: its settings do not describe it; was it built on another backbone?"
        raise InputError(msg)
    described = {
        **(metadata or {}),
        "network": name,
        "settings": json.dumps(settings, sort_keys=True),
        "version": __version__,
    }
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(tensors, partial, described)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def open_network(path: Path) -> tuple[DepthNetwork, dict[str, str]]:
    """Build the network of a model file, with its weights.

    Args:
        path: written by `save_network`.

    Returns:
        The network in evaluation mode, and the file's metadata.

    Raises:
        ModelFileError: the file cannot be read or does not fit any network.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        msg = f"{path}: {error}; expected a .safetensors file"
        raise ModelFileError(msg) from error
    try:
        network = build_network(metadata["network"], **json.loads(metadata["settings"]))
    except KeyError as error:
        msg = f"{path}: no {error.args[0]} in its metadata; expected a file of save_network"
        raise ModelFileError(msg) from error
    except (InputError, ValueError, TypeError) as error:
        msg = f"{path}: its metadata fits no network here ({error})"
        raise ModelFileError(msg) from error
    _load(network, tensors, path)
    return network.eval(), metadata


def _load(network: DepthNetwork, tensors: Mapping[str, Tensor], path: Path) -> None:
    expected = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    found = {name: tuple(t.shape) for name, t in tensors.items()}
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    wrong = [name for name in expected if name in found and found[name] != expected[name]]
    if missing or extra or wrong:
        example = (wrong or missing or extra)[0]
        shapes = f"found {found.get(example)}, expected {expected.get(example)}"
        msg = (
            f"{path}: does not fit {type(network).__name__}: {len(missing)} tensors missing, "
            f"{len(extra)} unknown, {len(wrong)} of another shape ({example}: {shapes}); "
            "is it another network or width?"
        )
        raise ModelFileError(msg)
    network.load_state_dict(dict(tensors))


def _get(content: Any, key: str) -> Any:
    return content.get(key) if isinstance(content, dict) else None


def _reason(text: str) -> str:
    """Find the sentence of torch's advice that names what was refused."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "Unsupported" in line), lines[0] if lines else "")
