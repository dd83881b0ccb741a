from __future__ import annotations

import pytest
import torch

from depth_completion_ros.errors import InputError
from depth_completion_ros.training.checkpoint import has_state, read_state, write_state


def state(step: int) -> dict:
    return {"step": step, "network": {"w": torch.full((3,), float(step))}, "best": float("inf")}


def test_the_newest_state_is_read(tmp_path):
    assert not has_state(tmp_path)
    assert read_state(tmp_path) is None
    for step in (1, 2, 3):
        write_state(tmp_path, state(step))
    found = read_state(tmp_path)
    assert found["step"] == 3
    assert found["network"]["w"].tolist() == [3, 3, 3]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.before.pt", "checkpoint.pt"]


@pytest.mark.parametrize("damage", [lambda b: b[:-10], lambda b: b[:100] + b"?" + b[101:]])
def test_a_damaged_state_gives_way_to_the_one_before(tmp_path, caplog, damage):
    for step in (1, 2):
        write_state(tmp_path, state(step))
    newest = tmp_path / "checkpoint.pt"
    newest.write_bytes(damage(newest.read_bytes()))
    assert read_state(tmp_path)["step"] == 1
    assert "checkpoint.pt: damaged" in caplog.text


def test_a_kill_between_writing_and_naming_loses_nothing(tmp_path):
    for step in (1, 2):
        write_state(tmp_path, state(step))
    (tmp_path / "checkpoint.pt").rename(tmp_path / "checkpoint.pt.next")
    assert read_state(tmp_path)["step"] == 2
    assert has_state(tmp_path)


def test_nothing_but_damaged_states_is_refused(tmp_path):
    write_state(tmp_path, state(1))
    (tmp_path / "checkpoint.pt").write_bytes(b"?")
    with pytest.raises(InputError, match="no checkpoint is whole"):
        read_state(tmp_path)


def test_a_folder_that_cannot_be_written_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_state(tmp_path / "file", state(1))
