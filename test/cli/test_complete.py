from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_completion_ros import open_completer, open_source
from depth_completion_ros.datasets.depth_png import (
    read_confidence_png,
    read_depth_png,
    read_sigma_png,
)

NAMES = ("street_01", "street_02", "street_03")
COMMAND = (sys.executable, "-m", "depth_completion_ros.cli.main")


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "run.json"
    }


def test_results_are_those_of_the_python_interface(run, source, tmp_path):
    out = tmp_path / "out"
    done = run("complete", source, out, "--network", "fill", "--sigma")
    assert done.status == 0
    assert "3 of 3 frames completed; fill on opencv (cpu)" in done.out
    assert done.err == ""
    frame = open_source(source)[1]
    with open_completer("fill") as completer:
        expected = completer.complete(frame)
    depth = read_depth_png(out / "depth" / "street_02.png")
    confidence = read_confidence_png(out / "confidence" / "street_02.png")
    sigma = read_sigma_png(out / "sigma" / "street_02.png")
    np.testing.assert_allclose(depth, expected.depth, atol=0.51 / 256)
    np.testing.assert_allclose(confidence, expected.confidence, atol=0.51 / 255)
    finite = np.isfinite(expected.sigma)
    assert np.array_equal(np.isfinite(sigma), finite)
    np.testing.assert_allclose(sigma[finite], expected.sigma[finite], atol=0.51 / 256)


def test_run_json_tells_how_it_was_made(run, source, tmp_path):
    out = tmp_path / "out"
    assert run("complete", source, out, "--projection.max_depth", "50").status == 0
    record = json.loads((out / "run.json").read_text())
    assert record["finished"] is True
    assert record["settings"]["network"] == "fill"
    assert record["settings"]["projection.max_depth"] == 50
    assert sorted(record["frames"]) == list(NAMES)
    assert record["frames"]["street_01"]["timings"]["total"] > 0
    assert not (out / "sigma").exists()


def test_json_is_all_there_is_on_stdout(run, source, tmp_path):
    done = run("complete", source, tmp_path / "out", "--json")
    assert done.err == ""
    assert done.json["completed"] == 3
    assert done.json["failed"] == {}


def test_a_damaged_frame_is_listed_and_the_others_are_done(run, source, tmp_path):
    sparse = source / "street_02_sparse.png"
    sparse.write_bytes(sparse.read_bytes()[:-30])
    out = tmp_path / "out"
    done = run("complete", source, out)
    assert done.status == 1
    assert "2 of 3 frames completed, 1 failed" in done.out
    assert "failed: street_02: " in done.err
    assert "truncated PNG" in done.err
    assert sorted(p.name for p in (out / "depth").iterdir()) == ["street_01.png", "street_03.png"]
    assert json.loads((out / "run.json").read_text())["failed"] == ["street_02"]


def test_an_image_of_another_size_than_its_calibration_fails_alone(run, source, tmp_path):
    cv2.imwrite(str(source / "street_03_image.png"), np.zeros((10, 20, 3), np.uint8))
    done = run("complete", source, tmp_path / "out", "--json")
    assert done.status == 1
    assert list(done.json["failed"]) == ["street_03"]
    assert "expected 20x10" in done.json["failed"]["street_03"]


def test_a_damaged_frame_alone_is_bad_input(run, source, tmp_path):
    for name in NAMES[1:]:
        (source / f"{name}_image.png").unlink()
    (source / "street_01_image.png").write_bytes(b"not a PNG")
    message = run("complete", source, tmp_path / "out").refused()
    assert "all 1 frames failed; street_01" in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"K": [[0, 0, 0], [0, 0, 0], [0, 0, 1]]}, "focal length"),
        ({"T_camera_lidar": np.diag([2.0, 1, 1, 1]).tolist()}, "is no rotation"),
        ({"T_camera_lidar": [[1, 2], [3, 4]]}, "T_camera_lidar"),
    ],
)
def test_a_calibration_that_cannot_be_true_is_refused(run, source, tmp_path, change, words):
    for name in NAMES:
        path = source / f"{name}_calib.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert words in run("complete", source, tmp_path / "out").refused()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["complete", "no/such/folder", "out"], "no such file or folder"),
        (["complete", "{source}", "out", "--network", "nix"], "found 'nix', expected auto or"),
        (["complete", "{source}", "out", "--backend", "nix"], "found 'nix', expected one of"),
        (["complete", "{source}", "out", "--device", "cuda"], "device"),
        (["complete", "{source}", "out", "--nix"], "unrecognized arguments: --nix"),
        (["complete", "{source}", "out", "--projection.max_depth", "deep"], "expected a number"),
        (["complete", "{source}", "out", "--projection.max_depth", "nan"], "projection.max_depth"),
        (["complete", "{source}", "out", "--projection.max_depth", "0.2"], "minimum < maximum"),
        (["complete", "{source}", "out", "--topics", "points"], "--topics: found 'points'"),
        (["complete", "{source}", "out", "--calibration.file", "nix.yaml"], "nix.yaml"),
        (["complete", "{source}"], "the following arguments are required: OUT"),
        (["nix"], "invalid choice: 'nix'"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_bad_usage_is_one_line(run, source, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    message = run(*(argument.format(source=source) for argument in arguments)).refused()
    assert words in message
    assert not (tmp_path / "out" / "depth").exists()


def test_a_folder_without_frames_says_what_was_looked_for(run, tmp_path):
    assert "NAME_image" in run("complete", tmp_path, tmp_path / "out").refused()


def test_an_output_below_a_file_cannot_be_written(run, source, tmp_path):
    (tmp_path / "file").write_text("")
    message = run("complete", source, tmp_path / "file" / "out").refused()
    assert "cannot be written" in message


def test_a_full_disk_leaves_no_partial_file(source, tmp_path):
    def limit_file_size() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))

    out = tmp_path / "out"
    done = subprocess.run(
        [*COMMAND, "complete", source, out],
        capture_output=True,
        text=True,
        preexec_fn=limit_file_size,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "cannot be written (File too large)" in done.stderr
    assert [p for p in out.rglob("*.png") if not whole_png(p)] == []
    assert [p for p in out.rglob(".*") if p.is_file()] == []


def test_a_closed_pipe_is_no_traceback(source, tmp_path):
    done = subprocess.run(
        f"'{sys.executable}' -m depth_completion_ros.cli.main evaluate '{source}' --json | true; "
        "echo ${PIPESTATUS[0]}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.strip() in ("0", "141")


def test_a_full_stdout_is_bad_output(source, tmp_path):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "evaluate", source],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == "depth_completion: error: No space left on device\n"


def test_resume_completes_only_what_is_missing(run, source, tmp_path):
    out = tmp_path / "out"
    run("complete", source, out)
    before = files(out)
    (out / "depth" / "street_02.png").unlink()
    stamp = (out / "depth" / "street_01.png").stat().st_mtime_ns
    done = run("complete", source, out, "--resume", "--json")
    assert (done.json["completed"], done.json["done_before"]) == (1, 2)
    assert files(out) == before
    assert (out / "depth" / "street_01.png").stat().st_mtime_ns == stamp
    record = json.loads((out / "run.json").read_text())
    assert sorted(record["frames"]) == list(NAMES)


def test_resume_with_other_settings_is_refused(run, source, tmp_path):
    out = tmp_path / "out"
    run("complete", source, out)
    message = run("complete", source, out, "--resume", "--projection.max_depth", "50").refused()
    assert "was made with projection.max_depth 250.0, found 50.0" in message


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_has_whole_files_and_goes_on(source, tmp_path, signum):
    for i in range(60):
        for part in ("image.png", "sparse.png", "calib.json"):
            shutil.copy(source / f"street_01_{part}", source / f"more_{i:03}_{part}")
    out, uninterrupted = tmp_path / "out", tmp_path / "uninterrupted"
    subprocess.run([*COMMAND, "complete", source, uninterrupted], check=True, capture_output=True)
    process = subprocess.Popen(
        [*COMMAND, "complete", source, out],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(out.glob("depth/more_*.png")) and time.monotonic() < deadline:
        time.sleep(0.001)
    os.kill(process.pid, signum)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signum
    assert "Traceback" not in err
    done = list(out.glob("depth/*.png"))
    assert 0 < len(done) < 63
    assert all(whole_png(p) for p in out.rglob("*.png"))
    assert [p for p in out.rglob(".*") if p.is_file()] == []
    assert json.loads((out / "run.json").read_text())["finished"] is False
    again = subprocess.run(
        [*COMMAND, "complete", source, out, "--resume", "--json"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(again.stdout)["done_before"] >= len(done) - 1
    assert files(out) == files(uninterrupted)


def whole_png(path: Path) -> bool:
    return path.read_bytes().endswith(b"IEND\xaeB`\x82")
