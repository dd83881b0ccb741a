from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from depth_completion_ros.errors import InputError
from depth_completion_ros.training.loop import Trainer
from depth_completion_ros.training.parallel import Processes
from depth_completion_ros.training.recipe import read_recipe


def train_in_two(recipe: Path, out: Path) -> None:
    """Train in two processes, told of each other as `torchrun` does."""
    main = ["-m", "depth_completion_ros.cli.main", "train", str(recipe), "--out", str(out)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, *main],
            env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors


def losses_in(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_compute_what_one_does(folder, tmp_path):
    # With batch normalisation, whose statistics have to be those of the whole batch.
    recipe = tmp_path / "tiny.yaml"
    tree = {
        "network": {"name": "redc_lite", "settings": {"widths": [4, 4, 4, 4], "blocks": [0] * 3}},
        "data": {"sources": [{"path": str(folder)}]},
        "augmentation": {"crop": [48, 64], "flip": 0.5},
        "loss": {"likelihood": 0.1},
        "stages": [{"steps": 4}],
        "run": {"batch": 4, "threads": 1, "device": "cpu", "log_every": 1},
    }
    recipe.write_text(yaml.safe_dump(tree))
    list(Trainer(read_recipe(recipe), tmp_path / "one").run())
    train_in_two(recipe, tmp_path / "two")
    assert len(losses_in(tmp_path / "two")) == 4
    assert losses_in(tmp_path / "two") == pytest.approx(losses_in(tmp_path / "one"), rel=1e-5)


def test_a_batch_has_to_be_divisible():
    with pytest.raises(InputError, match="found 3, expected a multiple of the 2 processes"):
        Processes(0, 2).part_of(3)
    assert Processes(0, 2).part_of(6) == 3
