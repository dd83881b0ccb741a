from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from depth_completion_ros import Frame, PinholeCamera, open_completer
from depth_completion_ros.backends import torch_
from depth_completion_ros.completers import opening
from depth_completion_ros.errors import BackendError, InputError, ModelFileError
from depth_completion_ros.settings import ProjectionSettings

pytest.importorskip("onnxruntime", reason="needs onnxruntime")
torch = pytest.importorskip("torch", reason="needs torch")


def test_an_unknown_network_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"network: found 'pennet', expected auto or one of fill"):
        open_completer("pennet")


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"backend": "tensorrt"}, "backend: found 'tensorrt', but fill runs with auto or opencv"),
        ({"device": "cuda"}, "device: found 'cuda', but fill runs with auto or cpu"),
        ({"precision": "int8"}, "precision: found 'int8', but fill runs with auto or fp32"),
    ],
)
def test_fill_refuses_what_it_cannot_run_on(options, found):
    with pytest.raises(BackendError, match=found):
        open_completer("fill", **options)


def test_fill_refuses_weights():
    with pytest.raises(InputError, match=r"weights: found 'a\.onnx', but fill has no weights"):
        open_completer("fill", weights="a.onnx")


def test_settings_reach_the_completer():
    settings = ProjectionSettings(max_depth=20.0)
    sparse = np.zeros((9, 9), np.float32)
    sparse[4, 4] = 30.0
    camera = PinholeCamera(9, 9, np.array([[9.0, 0, 4], [0, 9.0, 4], [0, 0, 1]]))
    frame = Frame(np.zeros((9, 9, 3), np.uint8), camera, sparse_depth=sparse)
    with open_completer("fill", settings=settings) as completer:
        assert not completer.complete(frame).depth.any()


@pytest.fixture
def shipped(monkeypatch, tmp_path):
    """Let models be found in an empty folder."""

    def find(relative: str) -> Path:
        path = tmp_path / relative
        if not path.exists():
            raise InputError(relative)
        return path

    (tmp_path / "models").mkdir()
    monkeypatch.setattr(opening, "find_share_file", find)
    return tmp_path / "models"


def ship(model_files, folder, *suffixes, name="redc_lite"):
    path = model_files("untrained")
    for suffix in suffixes:
        (folder / f"{name}{suffix}").write_bytes(path.with_suffix(suffix).read_bytes())


def test_auto_is_fill_while_no_network_is_shipped(shipped):
    with open_completer() as completer:
        assert (completer.name, completer.backend, completer.device) == ("fill", "opencv", "cpu")
        assert completer.why.startswith(
            "fill, because redc_lite cannot run: redc_lite: no weights"
        )


def test_auto_takes_redc_lite_with_onnxruntime_on_a_cpu(shipped, model_files, street, monkeypatch):
    monkeypatch.setattr(torch_, "has_nvidia_device", lambda: False)
    ship(model_files, shipped, ".onnx", ".safetensors")
    with open_completer() as completer:
        assert (completer.name, completer.backend) == ("redc_lite", "onnxruntime")
        assert completer.device == "cpu"
        assert completer.why.startswith("redc_lite on onnxruntime (cpu); not tensorrt: ")
        assert "not torch on CUDA: there is no NVIDIA device" in completer.why
        assert completer.complete(street()).depth.all()


def test_auto_takes_torch_where_the_graph_is_missing(shipped, model_files):
    ship(model_files, shipped, ".safetensors")
    with open_completer(device="cpu") as completer:
        assert (completer.name, completer.backend) == ("redc_lite", "torch")
        assert "not onnxruntime: models/redc_lite.onnx: not found" in completer.why


def test_auto_falls_back_to_fill_where_the_files_are_damaged(shipped):
    (shipped / "redc_lite.onnx").write_bytes(b"nothing")
    with open_completer() as completer:
        assert completer.name == "fill"
        assert "redc_lite.onnx: ONNX Runtime cannot open it" in completer.why


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"network": "redc_lite"}, ModelFileError, "redc_lite: no weights of it come with this"),
        ({"network": "penet"}, ModelFileError, "penet: no weights of it come with this"),
        ({"backend": "onnxruntime"}, BackendError, "fill runs with auto .* no weights of it come"),
        ({"weights": "nowhere.onnx"}, ModelFileError, r"nowhere\.onnx: no such file"),
    ],
)
def test_what_is_named_never_becomes_another(shipped, options, error, words):
    with pytest.raises(error, match=words):
        open_completer(**options)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (
            {"network": "redc"},
            ModelFileError,
            "found weights of redc_lite, expected those of redc",
        ),
        ({"backend": "torch"}, BackendError, r"but torch reads \.safetensors or \.pt"),
        (
            {"backend": "tensorrt", "device": "cpu"},
            BackendError,
            "^tensorrt: not installed|^device: found 'cpu', but TensorRT runs on cuda",
        ),
        ({"precision": "int8"}, BackendError, "precision: found 'int8', but .* holds fp32"),
        ({"device": "gpu"}, BackendError, "device: found 'gpu', expected auto, cpu, cuda or"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(model_files, options, error, words):
    path = model_files("untrained").with_suffix(".onnx")
    with pytest.raises(error, match=words) as caught:
        open_completer(weights=str(path), **options)
    assert "\n" not in str(caught.value)


def test_graphs_of_others_are_refused(tmp_path, model_files):
    import onnx

    model = onnx.load(model_files("untrained").with_suffix(".onnx"))
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(ModelFileError, match=r"a\.onnx: no network in its metadata"):
        open_completer(weights=str(tmp_path / "a.onnx"))


def test_published_checkpoints_are_opened_by_the_networks_name(tmp_path, street):
    from depth_completion_ros.networks.registry import build_network

    network = build_network("msg_chn")
    torch.save({"net": network.state_dict()}, tmp_path / "msg_chn.pth")
    path = str(tmp_path / "msg_chn.pth")
    with open_completer("msg_chn", weights=path, device="cpu") as completer:
        assert completer.backend == "torch"
        assert completer.complete(street()).depth.shape == (75, 106)
    with pytest.raises(ModelFileError, match="does not say what it is; name the network"):
        open_completer(weights=path)
