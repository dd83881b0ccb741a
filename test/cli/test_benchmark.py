from __future__ import annotations

import numpy as np
import pytest

from depth_completion_ros.cli.benchmark import project_plainly, street_frame
from depth_completion_ros.geometry.projection import project_points


def test_the_made_up_frame_looks_like_a_real_one():
    frame = street_frame(1242, 375, 120_000)
    assert frame.points.shape == (120_000, 4)
    sparse = project_points(frame.points, frame.camera, frame.T_camera_lidar)
    assert 0.03 < np.count_nonzero(sparse) / sparse.size < 0.06
    assert 3 < sparse[sparse > 0].min() < 6
    assert 60 < sparse.max() < 72
    assert street_frame(1242, 375, 120_000).points.tobytes() == frame.points.tobytes()


def test_the_plain_projection_does_the_same_work():
    frame = street_frame(640, 192, 30_000)
    plain = project_plainly(frame)
    ours = project_points(frame.points, frame.camera, frame.T_camera_lidar, min_depth=0)
    # Halves are rounded differently; there are hardly any.
    assert np.mean(plain != ours) < 1e-4


def test_every_stage_and_the_ratios_are_told(run):
    done = run(
        *("benchmark", "--network", "fill", "--size", "320x96", "--points", "10000"),
        *("--repeat", "3", "--warm-up", "1", "--json"),
    )
    assert done.status == 0
    report = done.json
    assert list(report["stages"]) == [
        *("upload", "project", "prepare", "infer", "refine", "download", "total")
    ]
    total = report["stages"]["total"]
    assert 0 < total["p50_ms"] <= total["p95_ms"]
    assert report["frame"]["points"] == 10_000
    assert report["ratios"]["project_to_plain_projection"] > 0
    assert report["ratios"]["total_without_project_to_ip_basic"] > 0
    assert report["machine"]["cores"] >= 1
    assert report["machine"]["cpu"]


def test_the_table_is_for_people(run):
    done = run("benchmark", "--size", "320x96", "--points", "10000", "--repeat", "2")
    assert "fill on opencv (cpu), 320x96, 10000 points, 2 runs" in done.out
    assert "median ms" in done.out
    assert "project / plain projection: " in done.out
    assert "total without project / IP-Basic: " in done.out


def test_the_reference_network_is_the_known_one():
    torch = pytest.importorskip("torch", reason="needs torch")
    from depth_completion_ros.networks.reference_unet import ReferenceUNet

    network = ReferenceUNet().eval()
    assert sum(p.numel() for p in network.parameters()) == 297_181
    with torch.no_grad():
        assert network(torch.zeros(1, 5, 64, 96)).shape == (1, 29, 64, 96)


def test_the_whole_pipeline_is_compared_with_the_reference_network(run):
    for package in ("torch", "onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"needs {package}")
    arguments = ("benchmark", "--network", "fill", "--size", "320x96", "--points", "10000")
    report = run(*arguments, "--reference", "--repeat", "2", "--warm-up", "1", "--json").json
    reference = report["references"]["reference_unet"]["p50_ms"]
    ratio = report["stages"]["total"]["p50_ms"] / reference
    assert report["ratios"]["total_to_reference_unet"] == pytest.approx(ratio)
    done = run(*arguments, "--reference", "--repeat", "1", "--warm-up", "0")
    assert "total / reference U-Net: " in done.out


def test_a_frame_of_a_source_can_be_timed(run, source):
    done = run("benchmark", source, "--frame", "street_02", "--repeat", "2", "--json")
    assert done.json["frame"]["name"] == "street_02"
    assert done.json["frame"]["points"] is None
    assert "project_to_plain_projection" not in done.json["ratios"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--size", "big"], "--size: found 'big', expected WIDTHxHEIGHT"),
        (["--repeat", "0"], "expected a whole number from 1 on"),
        (["nowhere"], "no such file or folder"),
        (["--network", "nix"], "found 'nix'"),
    ],
)
def test_bad_usage_is_one_line(run, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert words in run("benchmark", *arguments).refused()
