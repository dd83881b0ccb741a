from __future__ import annotations

import pytest

from depth_completion_ros import open_completer

torch = pytest.importorskip("torch", reason="needs torch")
for package in ("onnx", "onnxruntime", "safetensors"):
    pytest.importorskip(package, reason=f"needs {package}")

from depth_completion_ros.networks.checkpoint import save_network  # noqa: E402
from depth_completion_ros.networks.registry import build_network  # noqa: E402


@pytest.fixture
def weights(tmp_path):
    torch.set_num_threads(1)
    network = build_network("redc_lite", widths=(4, 8, 8, 8)).eval()
    torch.nn.init.normal_(network.head.weight, std=0.3)
    save_network(network, tmp_path / "weights.safetensors", {"recipe": "none"})
    return tmp_path / "weights.safetensors"


def test_redc_lite_is_written_checked_and_runs(run, tmp_path, weights):
    out = tmp_path / "out.onnx"
    done = run("export", "redc_lite", out, "--weights", weights, "--json")
    assert done.status == 0
    assert done.json["size"] is None
    assert done.json["bytes"] == out.stat().st_size
    assert list(done.json["difference_to_torch"]) == [
        *("correction", "log_sigma", "weight", "offset")
    ]
    assert max(done.json["difference_to_torch"].values()) < 1e-3
    with open_completer("redc_lite", backend="onnxruntime", weights=str(out)) as completer:
        assert completer.model.text["recipe"] == "none"
        completer.warm_up(64, 96)
    assert {p.name for p in tmp_path.iterdir()} == {"out.onnx", "weights.safetensors"}


def test_an_int8_graph_takes_its_ranges_from_frames(run, tmp_path, weights, source):
    out = tmp_path / "out.int8.onnx"
    arguments = ("export", "redc_lite", out, "--weights", weights, "--precision", "int8")
    assert "expected an .onnx file to write and --frames" in run(*arguments).refused()
    assert run(*arguments, "--frames", source, "--json").json["precision"] == "int8"
    assert run("complete", source, tmp_path / "depth", "--weights", out).status == 0


def test_a_published_checkpoint_becomes_a_graph_for_one_size_or_a_model_file(run, tmp_path):
    network = build_network("lrru", size="mini")
    checkpoint, onnx = tmp_path / "LRRU_Mini.pt", tmp_path / "lrru.onnx"
    torch.save({"net": network.state_dict()}, checkpoint)
    arguments = ("--weights", checkpoint, "--set", "size=mini")
    done = run("export", "lrru", onnx, *arguments, "--size", "96x64")
    assert "for images of 96x64" in done.out
    assert "ONNX Runtime and torch agree to" in done.out
    assert "size: found none" in run("export", "lrru", onnx, *arguments).refused()
    again = tmp_path / "again.safetensors"
    assert run("export", "lrru", again, *arguments).status == 0
    assert run("export", "lrru", onnx, "--weights", again, "--size", "96x64").status == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["redc_lite", "out.engin"], "OUT: found 'out.engin', expected a name that ends in .onnx"),
        (["redc", "out.onnx"], "redc: no weights of it come with this package"),
        (["redc", "out.onnx", "--weights", "WEIGHTS"], "weights of redc_lite, expected those of"),
        (["redc_lite", "out.onnx", "--weights", "none.pt"], "none.pt: no such file"),
        (["redc_lite", "out.onnx", "--weights", "WEIGHTS", "--size", "9"], "--size: found '9'"),
        (["redc_lite", "out.onnx", "--weights", "WEIGHTS", "--set", "a"], "--set: found 'a'"),
        (
            ["redc_lite", "out.onnx", "--weights", "WEIGHTS", "--size", "100x64"],
            "size: found 100x64, expected multiples of 16",
        ),
    ],
)
def test_bad_usage_is_one_line_and_leaves_nothing(
    run, tmp_path, monkeypatch, weights, arguments, words
):
    monkeypatch.chdir(tmp_path)
    arguments = [str(weights) if text == "WEIGHTS" else text for text in arguments]
    assert words in run("export", *arguments).refused()
    assert [p.name for p in tmp_path.iterdir()] == ["weights.safetensors"]
