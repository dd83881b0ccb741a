from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from depth_completion_ros.data import DenseDepth
from depth_completion_ros.datasets.results import ResultReader, ResultWriter
from depth_completion_ros.errors import InputError


def _dense(metres: float = 5.0) -> DenseDepth:
    def full(value: float) -> np.ndarray:
        return np.full((2, 3), value, np.float32)

    timings = {"infer": 0.01, "total": 0.0123456789}
    return DenseDepth(full(metres), full(0.5), full(0.8), full(0), stamp=7, timings=timings)


def _files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_results_come_back_as_they_were_written(tmp_path: Path) -> None:
    with ResultWriter(tmp_path / "out", ["a", "b"], with_sigma=True) as writer:
        writer.write("a", _dense(5))
        writer.write("b", _dense(6))
    reader = ResultReader(tmp_path / "out")
    assert list(reader.names) == ["a", "b"]
    assert np.all(reader.depth("b") == 6)
    confidence, sigma = reader.confidence("a"), reader.sigma("a")
    assert confidence is not None
    assert sigma is not None
    np.testing.assert_allclose(confidence, 0.8)
    assert np.all(sigma == 0.5)


def test_run_json_tells_how_it_was_made(tmp_path: Path) -> None:
    with ResultWriter(
        tmp_path, ["a", "b"], settings={"network": "fill", "size": (1, 2)}
    ) as writer:
        writer.write("a", _dense())
        writer.fail("b", "b.png: found a truncated PNG")
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["finished"] is True
    assert run["settings"] == {"network": "fill", "size": [1, 2]}
    assert run["frames"]["a"] == {"stamp": 7, "timings": {"infer": 0.01, "total": 0.012346}}
    assert run["failed"] == ["b"]
    assert run["frames"]["b"] == {"error": "b.png: found a truncated PNG"}
    assert set(run["versions"]) == {"depth_completion", "python", "numpy", "opencv"}
    assert ResultReader(tmp_path).run == run


def test_without_sigma_there_is_none(tmp_path: Path) -> None:
    with ResultWriter(tmp_path, ["a"]) as writer:
        writer.write("a", _dense())
    assert _files(tmp_path) == ["confidence/a.png", "depth/a.png", "run.json"]
    assert ResultReader(tmp_path).sigma("a") is None


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    settings = {"network": "fill"}

    def interrupted() -> None:
        with ResultWriter(tmp_path, names, settings=settings) as writer:
            writer.write("a", _dense(5))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["finished"] is False
    with ResultWriter(tmp_path, names, settings=settings, resume=True) as writer:
        assert writer.done == {"a"}
        for name in ("b", "c"):
            writer.write(name, _dense(6))
    run = ResultReader(tmp_path).run
    assert run["finished"] is True
    assert sorted(run["frames"]) == names
    assert ResultReader(tmp_path).depth("a")[0, 0] == 5


def test_a_frame_is_done_only_with_all_its_files(tmp_path: Path) -> None:
    with ResultWriter(tmp_path, ["a", "b"]) as writer:
        writer.write("a", _dense())
        writer.write("b", _dense())
    (tmp_path / "confidence" / "a.png").unlink()
    assert ResultWriter(tmp_path, ["a", "b"], resume=True).done == {"b"}
    assert ResultWriter(tmp_path, ["a", "b"], resume=True, with_sigma=True).done == set()


def test_a_run_with_other_settings_is_not_resumed(tmp_path: Path) -> None:
    with ResultWriter(tmp_path, ["a"], settings={"network": "fill"}):
        pass
    with pytest.raises(InputError, match="was made with network 'fill', found 'redc' now"):
        ResultWriter(tmp_path, ["a"], settings={"network": "redc"}, resume=True)


def test_a_new_run_removes_its_own_old_depth_only(tmp_path: Path) -> None:
    with ResultWriter(tmp_path, ["a", "b"]) as writer:
        writer.write("a", _dense())
        writer.write("b", _dense())
    writer = ResultWriter(tmp_path, ["a"])
    assert writer.done == set()
    assert (tmp_path / "depth" / "b.png").is_file()


def test_an_unwritable_folder_is_reported_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match="cannot be written") as caught:
        ResultWriter(tmp_path / "out", ["a"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../a", "a/b", "", ".."])
def test_a_name_never_leaves_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="expected a plain file name"):
        ResultWriter(tmp_path, [name])


def test_a_folder_of_depth_maps_can_be_read(tmp_path: Path) -> None:
    with ResultWriter(tmp_path / "out", ["a"]) as writer:
        writer.write("a", _dense())
    reader = ResultReader(tmp_path / "out" / "depth")
    assert list(reader.names) == ["a"]
    assert reader.confidence("a") is None
    assert reader.run == {}


def test_what_holds_no_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        ResultReader(tmp_path / "none")
    with pytest.raises(InputError, match=r"found neither depth/\*\.png nor \*\.png"):
        ResultReader(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json: found no valid JSON"):
        ResultWriter(tmp_path, ["a"], resume=True)
