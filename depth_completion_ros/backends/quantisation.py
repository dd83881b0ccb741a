"""Make an int8 graph of an exported network: half the time on CPUs with integer dot products.

Not here: whether the accuracy suffers, which `depth_completion evaluate` tells.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from ..errors import InputError, ModelFileError

# Weights by channel with sign, activations without: the pair that ONNX Runtime is fast at.
_QUANTISED = ["Conv", "Add", "Resize"]


def quantise_onnx(path: Path, out: Path, examples: Iterable[Mapping[str, np.ndarray]]) -> None:
    """Write an int8 graph, with ranges of activations from real inputs.

    The first convolution, which sees logarithms of depth, and the last, which gives corrections
    and offsets, stay in single precision: 256 steps are too few for them.

    Args:
        path: `.onnx` of our own `export`, fp32.
        out: ends in `.onnx`; written whole or not at all.
        examples: arrays by name, as `Backend.run` takes them; a few dozen frames will do.

    Raises:
        ModelFileError: the package onnx is missing.
        InputError: there are no examples.
    """
    try:
        import onnx
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        msg = f"int8: needs onnx and onnxruntime ({error}); pip install depth_completion[export]"
        raise ModelFileError(msg) from error

    reader = _Reader(examples)
    if not reader.has_any:
        msg = "int8: found no frame to take the ranges of activations from, expected some"
        raise InputError(msg)
    # It advises on the root logger what is already done here.
    logging.getLogger().addFilter(_without_advice)
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            prepared = Path(folder) / "prepared.onnx"
            quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
            nodes = onnx.load(prepared).graph.node
            convolutions = [node.name for node in nodes if node.op_type == "Conv"]
            quantization.quantize_static(
                str(prepared),
                str(partial),
                reader,
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                op_types_to_quantize=_QUANTISED,
                nodes_to_exclude=[convolutions[0], convolutions[-1]],
            )
        _copy_metadata(path, partial)
        partial.replace(out)
    finally:
        logging.getLogger().removeFilter(_without_advice)
        partial.unlink(missing_ok=True)


class _Reader:
    """Hand examples one by one to the quantisation, which wants this interface."""

    def __init__(self, examples: Iterable[Mapping[str, np.ndarray]]) -> None:
        self._examples = iter(examples)
        self._first = next(self._examples, None)
        self.has_any = self._first is not None

    def get_next(self) -> dict[str, np.ndarray] | None:
        example, self._first = self._first, None
        if example is None:
            example = next(self._examples, None)
        return None if example is None else dict(example)


def _without_advice(record: logging.LogRecord) -> bool:
    return "pre-processing" not in record.getMessage()


def _copy_metadata(source: Path, target: Path) -> None:
    import onnx

    model = onnx.load(target)
    del model.metadata_props[:]
    for entry in onnx.load(source).metadata_props:
        copied = model.metadata_props.add()
        copied.key, copied.value = entry.key, entry.value
        if entry.key == "precision":
            copied.value = "int8"
    target.write_bytes(model.SerializeToString())
