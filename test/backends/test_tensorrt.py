"""Engines built on a machine without a GPU; running one is left to a machine that has it."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import warnings

import numpy as np
import pytest
import torch

from depth_completion_ros.backends import tensorrt_
from depth_completion_ros.backends.tensorrt_ import (
    EngineFile,
    EngineKey,
    TensorRTBackend,
    build_engine,
    cached_engine,
    check_values,
    find_runtime,
    kept_values,
    probe_arrays,
    why_not_runnable,
)
from depth_completion_ros.errors import BackendError, ModelFileError
from depth_completion_ros.networks.export import Graph, export_onnx
from depth_completion_ros.networks.grid_refinement import GridRefinement
from depth_completion_ros.networks.registry import build_network
from depth_completion_ros.networks.sampling import refine

has_rtx = importlib.util.find_spec("tensorrt_rtx") is not None
needs_rtx = pytest.mark.skipif(
    not has_rtx or importlib.util.find_spec("tensorrt") is not None,
    reason="tensorrt-rtx is not what is installed; pip install depth_completion[tensorrt]",
)

SIZE = (352, 1216)
KEY = EngineKey("ab" * 32, "tensorrt_rtx 1.7", "8.6", "fp32", SIZE)


@pytest.fixture(scope="module")
def refinement(tmp_path_factory):
    """The pass of redc, sampled from a grid, for any size."""
    path = tmp_path_factory.mktemp("onnx") / "refinement.onnx"
    parts = ["depth", "weight", "offset"]
    arguments = (torch.rand(1, 1, 32, 48), torch.rand(1, 9, 32, 48), torch.rand(1, 18, 32, 48))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            GridRefinement(),
            arguments,
            str(path),
            input_names=parts,
            output_names=["refined"],
            dynamic_axes={name: {2: "height", 3: "width"} for name in [*parts, "refined"]},
            opset_version=18,
            dynamo=False,
        )
    return path


def by_onnxruntime(path, arrays):
    import onnxruntime

    return onnxruntime.InferenceSession(path).run(None, arrays)[0]


@pytest.fixture(scope="module")
def redc_lite(tmp_path_factory):
    """The part of redc_lite that every runtime runs, as it is exported for all of them."""
    path = tmp_path_factory.mktemp("onnx") / "redc_lite.onnx"
    network = build_network("redc_lite")
    export_onnx(network, path)
    return path, Graph(network).eval()


def by_torch(graph):
    def run(arrays):
        with torch.no_grad():
            outputs = graph(*(torch.from_numpy(array) for array in arrays.values()))
        return {n: out.numpy() for n, out in zip(graph.outputs, outputs, strict=True)}

    return run


def test_the_graph_of_the_pass_of_redc_holds_for_any_size(refinement):
    generator = torch.Generator().manual_seed(4)
    depth = torch.rand(1, 1, 40, 90, generator=generator) * 80
    weight = torch.rand(1, 9, 40, 90, generator=generator)
    offset = torch.randn(1, 18, 40, 90, generator=generator) * 4
    arrays = {"depth": depth.numpy(), "weight": weight.numpy(), "offset": offset.numpy()}
    refined = torch.from_numpy(by_onnxruntime(refinement, arrays))
    torch.testing.assert_close(refined, refine(depth, weight, offset), atol=1e-3, rtol=0)


@needs_rtx
@pytest.mark.parametrize("capability", ["8.0", "8.6", "8.9", "12.0"])
def test_the_pass_of_redc_becomes_an_engine(refinement, capability):
    engine = build_engine(refinement, SIZE, capability, find_runtime())
    assert len(engine) > 100_000


@needs_rtx
@pytest.mark.parametrize("capability", ["8.6", "12.0"])
def test_redc_lite_becomes_an_engine(redc_lite, capability):
    engine = build_engine(redc_lite[0], SIZE, capability, find_runtime())
    assert len(engine) > 1_000_000


@needs_rtx
def test_the_whole_of_redc_lite_becomes_an_engine_in_half_precision(tmp_path):
    import onnx

    path = tmp_path / "redc_lite_fp16.onnx"
    export_onnx(build_network("redc_lite"), path, precision="fp16", with_pass=True)
    graph = onnx.load(path).graph
    kernels = {node.input[1] for node in graph.node if node.op_type == "Conv"}
    kinds = {tensor.data_type for tensor in graph.initializer if tensor.name in kernels}
    assert [output.name for output in graph.output] == ["depth", "sigma"]
    assert sum(node.op_type == "GridSample" for node in graph.node) == 1
    assert kinds == {onnx.TensorProto.FLOAT16}
    engine = build_engine(path, SIZE, "8.9", find_runtime())
    assert len(engine) > 1_000_000


@needs_rtx
def test_an_engine_is_built_once_and_never_silently(redc_lite, tmp_path, caplog):
    onnx, graph = redc_lite
    size, folder = (64, 96), tmp_path / "cache"
    with caplog.at_level(logging.WARNING):
        first = cached_engine(onnx, size, "8.6", folder, by_torch(graph))
    assert "there is none" in caplog.text
    stamp = first.stat().st_mtime_ns
    caplog.clear()
    again = cached_engine(onnx, size, "8.6", folder, by_torch(graph))
    assert (again, again.stat().st_mtime_ns, caplog.text) == (first, stamp, "")

    assert cached_engine(onnx, size, "8.9", folder) != first
    assert "the closest one has capability 8.6 instead of 8.9" in caplog.text
    caplog.clear()

    first.write_bytes(first.read_bytes()[:-1])
    assert cached_engine(onnx, size, "8.6", folder) == first
    assert "damaged or cut off" in caplog.text
    assert sorted(path.suffix for path in folder.iterdir()) == [".engine", ".engine"]


@needs_rtx
def test_an_engine_knows_what_the_network_gives(redc_lite, tmp_path):
    onnx, graph = redc_lite
    path = cached_engine(onnx, (64, 96), "8.6", tmp_path, by_torch(graph))
    file = EngineFile.read(path)
    assert file.metadata["network"] == "redc_lite"
    assert file.key.size == (64, 96)
    assert set(file.expected) == set(graph.outputs)
    arrays = probe_arrays(graph.inputs, 64, 96)
    check_values(path, "fp32", kept_values(by_torch(graph)(arrays)), file.expected)


@needs_rtx
def test_without_a_driver_an_engine_is_refused_with_the_reason(redc_lite, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a driver")
    path = cached_engine(redc_lite[0], (64, 96), "8.6", tmp_path)
    assert "driver" in why_not_runnable(find_runtime(), EngineFile.read(path).engine)
    with pytest.raises(BackendError, match=r"cannot run here .*driver.*; use another backend"):
        TensorRTBackend(path)


@needs_rtx
def test_without_a_gpu_a_network_is_refused_before_anything_is_built(redc_lite, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(BackendError, match=r"^device: found 'auto', but .* TensorRT needs"):
        TensorRTBackend(redc_lite[0], folder=tmp_path)
    assert not list(tmp_path.iterdir())


@needs_rtx
def test_a_gpu_it_does_not_know_is_named(refinement):
    with pytest.raises(
        BackendError, match=r"capability 9\.0, expected one of 7\.5, 8\.0, .*torch"
    ):
        build_engine(refinement, SIZE, "9.0", find_runtime())


@needs_rtx
def test_a_graph_it_cannot_read_is_named(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(ModelFileError, match=r"broken\.onnx: tensorrt_rtx .* cannot read it"):
        build_engine(path, SIZE, "8.6", find_runtime())


def test_without_a_runtime_both_are_named(monkeypatch):
    def nothing(name):
        msg = f"No module named {name!r}"
        raise ImportError(msg)

    monkeypatch.setattr(tensorrt_.importlib, "import_module", nothing)
    with pytest.raises(BackendError, match=r"tensorrt: No .* tensorrt_rtx: No .*pip install"):
        find_runtime()


def test_an_engine_of_another_gpu_driver_size_or_precision_has_another_name():
    others = [
        dataclasses.replace(KEY, **change)
        for change in (
            {"onnx_sha256": "cd" * 32},
            {"runtime": "tensorrt_rtx 1.8"},
            {"capability": "8.9"},
            {"precision": "fp16"},
            {"size": (352, 1248)},
        )
    ]
    assert len({KEY.file_name, *(key.file_name for key in others)}) == 6
    assert KEY.differences(others[2]) == "capability 8.9 instead of 8.6"


def test_a_file_comes_back_as_it_was_written(tmp_path):
    file = EngineFile(KEY, {"network": "redc"}, {"depth": [1.5, 2.25]}, b"\x00engine\xff")
    path = tmp_path / "new" / KEY.file_name
    file.write(path)
    assert EngineFile.read(path) == file
    assert [child.name for child in path.parent.iterdir()] == [KEY.file_name]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"ftrt and more", "no engine of ours"),
        (tensorrt_._MAGIC + b"\x02" + bytes(7) + b"{}", "damaged or cut off"),
        (tensorrt_._MAGIC + b"\xff" * 8, "no engine of ours"),
    ],
)
def test_what_is_no_engine_is_refused(tmp_path, content, reason):
    path = tmp_path / "some.engine"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelFileError, match=reason):
        EngineFile.read(path)


def test_a_wrong_engine_is_refused_with_both_figures(tmp_path):
    expected = {"depth": [3.0, 4.0]}
    check_values(tmp_path, "fp32", {"depth": [3.001, 4.001]}, expected)
    with pytest.raises(
        BackendError, match=r"depth is wrong by 0\.1 \(rms\), expected at most 0\.0"
    ):
        check_values(tmp_path, "fp32", {"depth": [3.1, 4.1]}, expected)
    with pytest.raises(BackendError, match=r"is wrong by nan"):
        check_values(tmp_path, "fp16", {"depth": [np.nan, 4.0]}, expected)
    with pytest.raises(BackendError, match=r"depth has 0 values, expected 2"):
        check_values(tmp_path, "fp32", {}, expected)


def test_the_probe_reaches_every_input():
    arrays = probe_arrays(("image", "sparse", "rays", "prefilled"), 32, 48)
    assert arrays["image"].shape == (1, 32, 48, 3)
    assert [arrays[name].shape[1] for name in ("sparse", "rays", "prefilled")] == [1, 2, 1]
    assert 0.05 < (arrays["sparse"] > 0).mean() < 0.15
    assert all(array.std() > 0 for array in arrays.values())


@pytest.mark.gpu
@needs_rtx
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device to run an engine on")
def test_an_engine_runs_and_gives_what_torch_gives(redc_lite, tmp_path):
    onnx, graph = redc_lite
    backend = TensorRTBackend(onnx, folder=tmp_path, reference=by_torch(graph))
    arrays = probe_arrays(graph.inputs, *SIZE)
    found, expected = backend.run(arrays), by_torch(graph)(arrays)
    backend.close()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=5e-3, rtol=1e-3)
