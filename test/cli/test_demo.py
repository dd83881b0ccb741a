"""The demo as a user runs it: three processes, real DDS, a bag, a table and a picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from depth_completion_ros.cli.demo_report import Recording, summarise
from depth_completion_ros.cli.main import main


class OneFrame:
    """What `summarise` asks of a source."""

    path = Path("somewhere")


def _recording() -> Recording:
    truth = np.full((2, 2), 10, np.float32)
    return Recording(
        inputs=[100, 200, 300],
        latencies={100: 0.010, 300: 0.030},
        maps={
            "depth/image": {100: truth + 1, 300: truth + 3},
            "confidence/image": {
                100: np.array([[0.9, 0.9], [0.1, 0.1]], np.float32),
                300: np.array([[0.9, 0.1], [0.1, 0.1]], np.float32),
            },
        },
        diagnostics={"dropped.superseded": "1", "dropped.bad_image": "0", "backend": "opencv"},
    )


def test_the_report_counts_by_stamp_and_averages_over_frames():
    truth = {0: np.full((2, 2), 10, np.float32), 2: np.full((2, 2), 10, np.float32)}
    report = summarise(_recording(), OneFrame(), 3, truth)
    assert (report["frames_in"], report["published"]) == (3, 2)
    assert report["dropped"] == {"superseded": 1}
    assert report["stamp_to_publish_p50_ms"] == pytest.approx(20)
    assert report["rmse_mm"] == pytest.approx(2000)
    assert report["mae_mm"] == pytest.approx(2000)
    assert report["share_judged_trusted"] == pytest.approx((2 / 4 + 1 / 4) / 2)


def test_a_prefix_without_any_ground_truth_is_refused(tmp_path, capsys, rendered_drive):
    flags = ["--drive", str(rendered_drive), "--ground-truth", f"{tmp_path}/nothing_"]
    assert main(["demo", *flags, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "nothing_" in error


def test_an_unwritable_folder_is_refused(tmp_path, capsys, rendered_drive):
    (tmp_path / "file").write_text("")
    flags = ["--drive", str(rendered_drive), "--out", str(tmp_path / "file" / "out")]
    assert main(["demo", *flags]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.ros
@pytest.mark.slow
def test_every_frame_comes_through_and_is_close_to_the_truth(tmp_path, capsys, rendered_drive):
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    out = tmp_path / "out"
    flags = ["--network", "fill", "--out", str(out), "--rate", "0.5", "--json"]
    assert main(["demo", "--drive", str(rendered_drive), *flags]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["published"] == report["frames_in"] == report["frames"]
    assert report["dropped"] == {}
    assert 0 < report["stamp_to_publish_p50_ms"] < 1000
    assert report["mae_mm_trusted"] < 1000
    assert (out / "overview.png").stat().st_size > 1000
    assert (out / "bag" / "metadata.yaml").is_file()
