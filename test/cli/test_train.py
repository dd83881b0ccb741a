"""`depth_completion train` as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("torch", reason="the extra `torch` is not installed")

from depth_completion_ros import open_completer, open_source

# A network of a few thousand weights that any crop of 64x64 is large enough for.
TINY = {"name": "redc_lite", "settings": {"widths": [4, 4, 4, 4], "blocks": [0, 0, 0]}}


def write_recipe(path: Path, source: Path, *, steps: int = 4, **groups) -> Path:
    recipe = {
        "network": TINY,
        "data": {"sources": [{"path": str(source), "exclude": ["*_03"]}], "cache": 10},
        "selection": {"sources": [{"path": str(source), "include": ["*_03"]}]},
        "augmentation": {"crop": [48, 64], "flip": 0.5},
        "stages": [{"steps": steps}],
        "run": {"batch": 2, "threads": 1, "device": "cpu"},
        **groups,
    }
    path.write_text(yaml.safe_dump(recipe))
    return path


def weights_of(out: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(out / "redc_lite.safetensors")


def test_training_writes_a_model_that_completes_frames(source, tmp_path, run):
    recipe = write_recipe(tmp_path / "tiny.yaml", source)
    done = run("train", recipe, "--out", tmp_path / "out", "--json")
    assert done.status == 0, done.err
    assert done.json["steps"] == 4
    assert done.json["selection"]["source"]["frames"] == 1
    model = Path(done.json["model"])
    assert model == tmp_path / "out" / "redc_lite.safetensors"
    with open_completer("redc_lite", backend="torch", device="cpu", weights=str(model)) as c:
        dense = c.complete(open_source(source)[0])
    assert np.isfinite(dense.depth).all()
    assert (dense.depth > 0).mean() > 0.5


def test_a_second_run_in_the_same_folder_is_refused(source, tmp_path, run):
    recipe = write_recipe(tmp_path / "tiny.yaml", source, steps=1)
    assert run("train", recipe, "--out", tmp_path / "out").status == 0
    assert "holds a run already" in run("train", recipe, "--out", tmp_path / "out").refused()
    other = run("train", recipe, "--out", tmp_path / "out", "--resume", "--set", "run.seed=2")
    assert "its run has another recipe (they differ in run)" in other.refused()


def test_a_killed_run_goes_on_to_the_same_weights(source, tmp_path, run):
    recipe = write_recipe(
        tmp_path / "tiny.yaml",
        source,
        steps=12,
        run={"batch": 1, "threads": 1, "device": "cpu", "checkpoint_seconds": 0.0},
        optimiser={"ema": 0.9},
    )
    command = [sys.executable, "-m", "depth_completion_ros.cli.main", "train", str(recipe)]
    killed = subprocess.Popen([*command, "--out", str(tmp_path / "killed")])
    second = tmp_path / "killed" / "checkpoint.before.pt"
    while not second.exists() and killed.poll() is None:
        time.sleep(0.005)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    resumed = run("train", recipe, "--out", tmp_path / "killed", "--resume", "--json")
    assert 0 < resumed.json["steps_of_this_call"] < 12
    assert run("train", recipe, "--out", tmp_path / "whole").status == 0
    killed_weights, whole_weights = (weights_of(tmp_path / out) for out in ("killed", "whole"))
    assert killed_weights.keys() == whole_weights.keys()
    for name, weight in whole_weights.items():
        np.testing.assert_array_equal(killed_weights[name], weight, err_msg=name)


def test_check_says_what_would_be_done(source, tmp_path, run):
    recipe = write_recipe(tmp_path / "tiny.yaml", source, steps=7)
    done = run("train", recipe, "--out", tmp_path / "out", "--check", "--json")
    assert done.status == 0
    assert done.json["frames"] == {"source": 2}
    assert done.json["steps"] == 7
    assert not (tmp_path / "out" / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("run.batch=0", "run.batch: found 0, expected a value from 1"),
        ("loss.l3=1", "loss.l3: unknown setting"),
        ("stages.0.train=backbone", "this network has no backbone apart"),
        ("data.sources.0.exclude=['*']", "no frame is left of 3"),
        ("selection.sources.0.include=['*']", "2 frames are trained on as well"),
        ("network.settings.depth=3", "redc_lite.depth: unknown setting"),
        ("network.name=red", "found 'red', expected one of"),
        ("run.device=gpu", "run.device: found 'gpu'"),
        ("run.batch", "--set: found 'run.batch', expected GROUP.SETTING=VALUE"),
        ("augmentation.crop=[]", ""),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(source, tmp_path, run, change, message):
    recipe = write_recipe(tmp_path / "tiny.yaml", source, steps=1)
    done = run("train", recipe, "--out", tmp_path / "out", "--set", change)
    if message:
        assert message in done.refused()
    else:
        assert done.status == 0


@pytest.mark.dataset
@pytest.mark.slow
def test_a_drive_becomes_truth_and_truth_a_model(kitti, tmp_path, run):
    bag, truth = tmp_path / "bag", tmp_path / "truth"
    drive = kitti / "drive_0009"
    assert run("convert", drive, bag).status == 0
    assert run("groundtruth", bag, truth, "--frames", "--window", "1").status == 0
    start = tmp_path / "start.yaml"
    write_recipe(start, truth, data={"sources": [{"path": str(truth)}]}, selection={}, steps=1)
    assert run("train", start, "--out", tmp_path / "start").status == 0
    changes = (
        f"network.start={tmp_path / 'start' / 'redc_lite.safetensors'}",
        "stages.0.steps=3",
        "run.batch=1",
        "augmentation.crop=[64, 128]",
        "selection.frames=1",
    )
    tuned = tmp_path / "tuned"
    flags = [word for change in changes for word in ("--set", change)]
    done = run("train", "finetune", "--data", tmp_path, "--out", tuned, "--json", *flags)
    assert done.status == 0, done.err
    model = Path(done.json["model"])
    before, after = weights_of(tmp_path / "start"), weights_of(tuned)
    assert any(not np.array_equal(before[name], after[name]) for name in before)
    with open_completer("redc_lite", backend="torch", device="cpu", weights=str(model)) as c:
        dense = c.complete(open_source(bag)[7])
    assert (dense.depth > 0).mean() > 0.5


def test_the_log_has_a_line_with_the_score(source, tmp_path, run):
    recipe = write_recipe(tmp_path / "tiny.yaml", source, steps=3)
    assert run("train", recipe, "--out", tmp_path / "out", "--set", "run.log_every=2").status == 0
    lines = (tmp_path / "out" / "log.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows] == [2, 3]
    assert rows[1]["is_best"]
    assert rows[1]["sources"]["source"]["rmse_mm"] > 0
