"""Write a network as an ONNX graph with everything in it that a runtime must know.

What is exported is the part that runtimes do well; the deformable pass of redc_lite and redc
stays outside on the CPU (`backends/refinement.py`), where a library routine is many times faster
than the operators of ONNX Runtime. The torch backend runs the same part.

Not here: running graphs (`backends/`) and what their metadata mean (`model_file.py`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..errors import InputError, ModelFileError
from ..share import __version__
from .model_file import COARSE, GUIDANCE, WHOLE
from .network import DepthNetwork
from .redc import ReDC
from .redc_lite import ReDCLite
from .registry import name_of
from .sampling import divide_by_sum, subtract_mean

if TYPE_CHECKING:
    from .grid_refinement import WholeGraph

OPSET = 18
# Their graphs hold for any size; the others' are traced at one.
_ANY_SIZE = ("msg_chn", "redc_lite")
_TRACED_SIZE = (64, 96)  # pixels, of a graph for any size


class Graph(nn.Module):
    """A network with named arrays in and out, for batch 1 and sizes that suit it.

    Inputs, in the order of `inputs`: image (1, H, W, 3) uint8 RGB; sparse and prefilled
    (1, 1, H, W), rays (1, 2, H, W) float32.

    Outputs, in the order of `outputs`, float32: depth, disagreement and coarse
    (1, 1, H, W) metres; what redc_lite gives is of half the size (see its `Guidance`).
    """

    def __init__(self, network: DepthNetwork) -> None:
        """Choose what the graph of this network gives."""
        super().__init__()
        self.network = network
        self.inputs = network.inputs
        self.outputs: tuple[str, ...] = WHOLE
        if isinstance(network, ReDCLite):
            self.outputs = GUIDANCE
        elif isinstance(network, ReDC) and network.settings.refined_map == "coarse":
            self.outputs = COARSE

    def forward(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        """Run the network on `inputs`; give `outputs`."""
        given: dict[str, Tensor | None] = dict.fromkeys(("image", "sparse", "rays", "prefilled"))
        given.update(zip(self.inputs, arrays, strict=True))
        image, sparse, rays, prefilled = given.values()
        assert sparse is not None
        if image is not None:
            # TensorRT can do nothing with bytes but turn them into numbers.
            image = image.float().permute(0, 3, 1, 2)
        network = self.network
        if isinstance(network, ReDCLite):
            assert prefilled is not None
            return tuple(network.guide(image, sparse, rays, prefilled))
        if self.outputs == COARSE:
            assert isinstance(network, ReDC)
            return _coarse(network, image, sparse, rays)
        output = network.complete(image, sparse, rays, prefilled)
        return output.depth, output.disagreement()


def _coarse(
    network: ReDC, image: Tensor | None, sparse: Tensor, rays: Tensor | None
) -> tuple[Tensor, ...]:
    coarse = network.backbone.encode(image, sparse, rays)
    weight, offset = network.guidance(coarse.features[0])
    normalise = subtract_mean if network.settings.residual else divide_by_sum
    distances = torch.cat([stage - coarse.depth for stage in coarse.stages], dim=1)
    disagreement = distances.square().mean(1, keepdim=True).sqrt()
    return coarse.depth, disagreement, normalise(weight), offset


def export_onnx(
    network: DepthNetwork,
    path: Path,
    *,
    size: tuple[int, int] | None = None,
    metadata: Mapping[str, str] | None = None,
    precision: str = "fp32",
    with_pass: bool = False,
) -> None:
    """Write a network as ONNX.

    Args:
        network: one of the registry's, with weights; it is put into evaluation mode.
        path: ends in `.onnx`; written whole or not at all.
        size: height and width in pixels that the graph is bound to; None is any size for
            redc_lite and msg_chn, and an error for the others.
        metadata: what the weights' file says: calibration, normalisation, recipe, ...
        precision: `fp32`; or `fp16` for TensorRT, whose engines have the types of their graph:
            convolutions work in half precision, positions and depths in single.
        with_pass: True writes the deformable pass into the graph, too, as a grid sampling.

    Raises:
        InputError: the size is missing or no multiple of what the network needs, or the network
            is steering, whose regression is no graph.
        ModelFileError: the exporter or the package `onnx` failed.
    """
    name = name_of(network)
    if name == "steering":
        msg = (
            "network: found steering, whose kernel regression is no graph; expected another one, "
            "or export its kernel_net and refiner with torch.onnx"
        )
        raise InputError(msg)
    is_any_size = size is None
    if size is None:
        if name not in _ANY_SIZE:
            msg = f"size: found none, but the graph of {name} holds for one size; say which"
            raise InputError(msg)
        size = _TRACED_SIZE
    if any(side % network.multiple for side in size):
        msg = (
            f"size: found {size[1]}x{size[0]}, expected multiples of {network.multiple} for {name}"
        )
        raise InputError(msg)
    graph: Graph | WholeGraph = Graph(network).eval()
    if with_pass:
        from .grid_refinement import WholeGraph

        graph = WholeGraph(network).eval()
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _trace(graph, partial, size, is_any_size, precision)
        described = {
            **(metadata or {}),
            **graph_metadata(graph, size=None if is_any_size else size),
            "opset": str(OPSET),
            "precision": precision,
            "weights_sha256": weights_sha256(network),
        }
        _add_metadata(partial, described)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def graph_metadata(graph: Graph | WholeGraph, *, size: tuple[int, int] | None) -> dict[str, str]:
    """Describe a graph by what every reader of `ModelDescription` needs.

    Args:
        graph: of a network of the registry.
        size: height and width it is bound to; None for any.
    """
    settings = dataclasses.asdict(graph.network.settings)
    return {
        "network": name_of(graph.network),
        "settings": json.dumps(settings, sort_keys=True),
        "version": __version__,
        "inputs": " ".join(graph.inputs),
        "outputs": " ".join(graph.outputs),
        "multiple": str(graph.network.multiple),
        "size": "" if size is None else f"{size[0]} {size[1]}",
    }


def example_arrays(
    graph: Graph | WholeGraph, height: int, width: int, seed: int = 0
) -> dict[str, Tensor]:
    """Make inputs that reach every part of a graph; for tracing and for comparisons."""
    generator = torch.Generator().manual_seed(seed)
    depth = torch.linspace(50, 3, height)[:, None].expand(1, 1, height, width)
    noise = torch.rand(1, 1, height, width, generator=generator)
    level = torch.randint(0, 256, (1, height, width, 3), generator=generator)
    arrays = {
        "image": level.to(torch.uint8),
        "sparse": (depth + noise) * (noise < 0.1),
        "rays": torch.rand(1, 2, height, width, generator=generator) - 0.5,
        "prefilled": (depth + 0.3).contiguous(),
    }
    return {name: arrays[name] for name in graph.inputs}


def weights_sha256(network: nn.Module) -> str:
    """Hash names, shapes and values of all tensors, so that files of one training are known."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _trace(
    graph: Graph | WholeGraph,
    path: Path,
    size: tuple[int, int],
    is_any_size: bool,
    precision: str,
) -> None:
    arrays = example_arrays(graph, *size)
    axes = {}
    if is_any_size:
        axes = {name: {2: "height", 3: "width"} for name in graph.inputs}
        if "image" in axes:
            axes["image"] = {1: "height", 2: "width"}
        axes.update({name: {2: "rows", 3: "columns"} for name in graph.outputs})
    try:
        half = torch.autocast(
            "cpu", torch.float16, enabled=precision == "fp16", cache_enabled=False
        )
        with warnings.catch_warnings(), torch.no_grad(), half:
            # The tracing exporter is called legacy, but needs one package less, takes a tenth of
            # the time and gives graphs that are as fast; sizes become constants on purpose.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                graph,
                tuple(arrays.values()),
                str(path),
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
            )
    except ImportError as error:
        msg = (
            f"export: the package onnx is missing ({error}); pip install depth_completion[export]"
        )
        raise ModelFileError(msg) from error
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        first_line = str(error).strip().splitlines()[0]
        msg = f"export: torch cannot write {name_of(graph.network)} as ONNX ({first_line})"
        raise ModelFileError(msg) from error


def _add_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    import onnx

    model = onnx.load(path)
    del model.metadata_props[:]
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
