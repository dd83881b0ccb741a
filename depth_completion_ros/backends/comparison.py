"""Make sure that an exported network gives what it gives in torch.

Not here: whole completions (the tests compare those).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ModelFileError
from .onnx_ import OnnxBackend
from .torch_ import TorchBackend

if TYPE_CHECKING:
    from ..networks.network import DepthNetwork

# Of each output: what rounding may do to values (metres, pixels, logarithms), and to large ones.
MAX_ERROR, MAX_RELATIVE_ERROR = 5e-3, 1e-3


def compare_with_torch(
    path: Path, network: DepthNetwork, sizes: Sequence[tuple[int, int]]
) -> dict[str, float]:
    """Run a graph in ONNX Runtime and its network in torch on the same arrays.

    Args:
        path: `.onnx` file.
        network: that it was made of.
        sizes: heights and widths to try, which the graph must take.

    Returns:
        The largest difference of each output over all sizes.

    Raises:
        ModelFileError: an output differs by more than rounding explains.
        BackendError: ONNX Runtime is missing.
    """
    from ..networks.export import Graph, example_arrays

    runtime = OnnxBackend(path, device="cpu")
    reference = TorchBackend(network, {}, device="cpu", precision="fp32")
    graph = Graph(network)
    differences = dict.fromkeys(graph.outputs, 0.0)
    for height, width in sizes:
        arrays = {
            name: np.ascontiguousarray(tensor.numpy())
            for name, tensor in example_arrays(graph, height, width).items()
        }
        expected, found = reference.run(arrays), runtime.run(arrays)
        for name in graph.outputs:
            error = np.abs(found[name] - expected[name])
            differences[name] = max(differences[name], float(error.max()))
            if np.any(error > MAX_ERROR + MAX_RELATIVE_ERROR * np.abs(expected[name])):
                msg = (
                    f"{path}: {name} differs from torch by {error.max():.3g} at {width}x{height}, "
                    f"expected at most {MAX_ERROR:g}; is this ONNX Runtime at fault?"
                )
                raise ModelFileError(msg)
    return differences
