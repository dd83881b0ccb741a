from __future__ import annotations

import numpy as np
import pytest

from depth_completion_ros.backends.onnx_ import OnnxBackend
from depth_completion_ros.backends.quantisation import quantise_onnx
from depth_completion_ros.errors import BackendError, InputError

torch = pytest.importorskip("torch", reason="needs torch")
onnx = pytest.importorskip("onnx", reason="needs onnx")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")

from depth_completion_ros.networks.export import Graph, example_arrays, export_onnx  # noqa: E402
from depth_completion_ros.networks.registry import build_network  # noqa: E402


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    torch.manual_seed(1)
    torch.set_num_threads(1)
    network = build_network("redc_lite", widths=(8, 8, 8, 8)).eval()
    torch.nn.init.normal_(network.head.weight, std=0.3)
    path = tmp_path_factory.mktemp("int8") / "redc_lite.onnx"
    export_onnx(network, path, metadata={"recipe": "none"})
    graph = Graph(network)
    examples = [
        {name: tensor.contiguous().numpy() for name, tensor in arrays.items()}
        for arrays in (example_arrays(graph, 64, 96, seed) for seed in range(3))
    ]
    return path, examples


def test_int8_is_close_to_fp32_and_says_what_it_is(exported):
    path, examples = exported
    out = path.with_name("redc_lite.int8.onnx")
    quantise_onnx(path, out, examples[:2])
    fp32, int8 = OnnxBackend(path, device="cpu"), OnnxBackend(out, device="cpu")
    assert int8.precision == "int8"
    assert int8.model.text["recipe"] == "none"
    assert int8.model.text["weights_sha256"] == fp32.model.text["weights_sha256"]
    expected, found = fp32.run(examples[2]), int8.run(examples[2])
    for name in ("correction", "offset"):
        error = np.abs(found[name] - expected[name])
        assert 0 < error.mean() < 0.1 * np.abs(expected[name]).mean()
    with pytest.raises(BackendError, match=r"precision: found 'fp32', but .* holds int8"):
        OnnxBackend(out, device="cpu", precision="fp32")


def test_the_first_and_the_last_convolution_stay_in_single_precision(exported):
    path, examples = exported
    out = path.with_name("again.onnx")
    quantise_onnx(path, out, examples)
    nodes = onnx.load(out).graph.node
    maker = {name: node.op_type for node in nodes for name in node.output}
    sources = [maker.get(node.input[0]) for node in nodes if node.op_type == "Conv"]
    assert sources[0] != "DequantizeLinear"
    assert "DequantizeLinear" in sources[1:-1]
    weights = [maker.get(node.input[1]) for node in nodes if node.op_type == "Conv"]
    assert [weight == "DequantizeLinear" for weight in weights] == [
        *(False,), *(True,) * (len(weights) - 2), *(False,)
    ]  # fmt: skip


def test_without_frames_there_are_no_ranges(exported, tmp_path):
    with pytest.raises(InputError, match="int8: found no frame"):
        quantise_onnx(exported[0], tmp_path / "none.onnx", [])
    assert not [*tmp_path.iterdir()]
