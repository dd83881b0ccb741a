from __future__ import annotations

import numpy as np
import pytest
import torch

from depth_completion_ros.errors import InputError
from depth_completion_ros.networks.export import (
    Graph,
    example_arrays,
    export_onnx,
    weights_sha256,
)
from depth_completion_ros.networks.model_file import ModelDescription
from depth_completion_ros.networks.registry import build_network

onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
pytest.importorskip("onnx", reason="needs onnx")

SMALL = {"widths": (4, 8, 8, 8)}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(1)
    network = build_network("redc_lite", **SMALL).eval()
    torch.nn.init.normal_(network.head.weight, std=0.3)
    return network


@pytest.fixture(scope="module")
def exported(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "redc_lite.onnx"
    export_onnx(network, path, metadata={"recipe": "none"})
    return path


@pytest.mark.parametrize("size", [(96, 128), (352, 1216), (384, 1248)])
def test_the_graph_gives_what_torch_gives_at_any_size(network, exported, size):
    graph = Graph(network).eval()
    arrays = example_arrays(graph, *size)
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    found = session.run(None, {name: tensor.numpy() for name, tensor in arrays.items()})
    with torch.no_grad():
        expected = graph(*arrays.values())
    assert found[0].shape == (1, 1, size[0] // 2, size[1] // 2)
    assert found[0].std() > 0.01
    for name, a, b in zip(graph.outputs, found, expected, strict=True):
        np.testing.assert_allclose(a, b.numpy(), atol=2e-4, err_msg=name)


def test_what_a_runtime_must_know_is_inside(network, exported):
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    model = ModelDescription.from_metadata(exported, metadata)
    assert model.network == "redc_lite"
    assert build_network(model.network, **model.settings).settings == network.settings
    assert model.inputs == ("image", "sparse", "rays", "prefilled")
    assert (model.multiple, model.size) == (16, ())
    assert metadata["recipe"] == "none"
    assert metadata["opset"] == "18"
    assert metadata["weights_sha256"] == weights_sha256(network)


def test_operators_that_are_slow_on_a_cpu_are_avoided(exported):
    import onnx

    graph = onnx.load(exported).graph
    operators = {node.op_type for node in graph.node}
    assert "Conv" in operators
    assert not operators & {"Softmax", "DepthToSpace", "GridSample", "BatchNormalization", "Pad"}


def test_other_weights_have_another_hash(network):
    other = build_network("redc_lite", **SMALL)
    assert weights_sha256(other) != weights_sha256(network)
    other.load_state_dict(network.state_dict())
    assert weights_sha256(other) == weights_sha256(network)


def test_a_graph_for_one_size_says_so(tmp_path):
    path = tmp_path / "enet.onnx"
    network = build_network("enet", width=0.03125)
    with pytest.raises(InputError, match="size: found none, but the graph of enet holds for one"):
        export_onnx(network, path)
    with pytest.raises(InputError, match="size: found 100x64, expected multiples of 32 for enet"):
        export_onnx(network, path, size=(64, 100))
    export_onnx(network, path, size=(64, 96))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["size"] == "64 96"
    assert [p.name for p in tmp_path.iterdir()] == ["enet.onnx"]
