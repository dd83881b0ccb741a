from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from depth_completion_ros import Frame, PinholeCamera, open_completer, open_source
from depth_completion_ros.completers.classical import FillCompleter
from depth_completion_ros.completers.ip_basic import fill_ip_basic
from depth_completion_ros.evaluation.confidence import reliability
from depth_completion_ros.evaluation.metrics import kitti_metrics
from depth_completion_ros.settings import OcclusionFilterSettings, ProjectionSettings

CAMERA = PinholeCamera(60, 40, np.array([[60.0, 0, 30], [0, 60.0, 20], [0, 0, 1]]))


def frame_of(sparse: np.ndarray, **fields: object) -> Frame:
    return Frame(np.zeros((40, 60, 3), np.uint8), CAMERA, sparse_depth=sparse, **fields)


def wall() -> np.ndarray:
    sparse = np.zeros((40, 60), np.float32)
    sparse[10::4, 2::4] = 8.0
    return sparse


def test_without_a_measurement_there_is_no_estimate():
    dense = FillCompleter().complete(frame_of(np.zeros((40, 60), np.float32)))
    assert not dense.depth.any()
    assert not dense.confidence.any()
    assert np.all(np.isposinf(dense.sigma))


def test_an_empty_cloud_gives_no_estimate():
    cloud = np.full((5, 3), np.nan, np.float32)
    frame = Frame(np.zeros((40, 60, 3), np.uint8), CAMERA, np.eye(4), cloud)
    assert not FillCompleter().complete(frame).depth.any()


def test_points_and_the_map_they_project_to_give_the_same():
    columns, rows = np.meshgrid(np.arange(2, 60, 4), np.arange(10, 40, 4))
    rays = np.stack(((columns - 30) / 60, (rows - 20) / 60, np.ones(columns.shape)), -1)
    points = (rays.reshape(-1, 3) * 8.0).astype(np.float32)
    from_points = Frame(np.zeros((40, 60, 3), np.uint8), CAMERA, np.eye(4), points)
    completer = FillCompleter()
    seen, given = completer.complete(from_points), completer.complete(frame_of(wall()))
    np.testing.assert_allclose(seen.depth, given.depth, rtol=1e-5)
    np.testing.assert_array_equal(seen.sparse > 0, given.sparse > 0)


def test_maps_line_up_with_the_image_and_carry_its_stamp():
    dense = FillCompleter().complete(frame_of(wall(), stamp=12))
    assert dense.stamp == 12
    for name in ("depth", "sigma", "confidence", "sparse"):
        array = getattr(dense, name)
        assert (array.shape, array.dtype) == ((40, 60), np.float32)
        assert array.flags.c_contiguous
    np.testing.assert_allclose(dense.depth, 8.0, rtol=1e-5)


def test_every_stage_is_timed_and_they_add_up():
    timings = FillCompleter().complete(frame_of(wall())).timings
    stages = ("upload", "project", "prepare", "infer", "refine", "download")
    assert tuple(timings) == (*stages, "total")
    assert sum(timings[stage] for stage in stages) == pytest.approx(timings["total"])


def test_settings_may_change_between_two_frames():
    completer = FillCompleter()
    assert completer.complete(frame_of(wall())).depth.any()
    completer.settings = ProjectionSettings(max_depth=5.0)
    assert not completer.complete(frame_of(wall())).depth.any()


def test_results_of_two_frames_share_no_memory():
    completer = FillCompleter()
    first = completer.complete(frame_of(wall()))
    before = first.depth.copy()
    completer.complete(frame_of(wall() * 2))
    np.testing.assert_array_equal(first.depth, before)


def test_warm_up_takes_any_size():
    with open_completer("fill") as completer:
        completer.warm_up(5, 7)
        completer.warm_up(375, 1242)


def some_frames(folder, prefix, count):
    dataset = open_source(folder)
    indices = [i for i, name in enumerate(dataset.names) if name.startswith(prefix)]
    for i in indices[:: max(1, len(indices) // count)][:count]:
        truth = dataset.ground_truth(i)
        if truth is not None:
            yield dataset[i], truth


@pytest.mark.dataset
@pytest.mark.parametrize("is_filtered", [True, False])
@pytest.mark.parametrize("prefix", ["raw0009", "raw0013", "sfnd"])
def test_errors_on_kitti_are_at_most_those_of_ip_basic(kitti, prefix, is_filtered):
    settings = ProjectionSettings(occlusion_filter=OcclusionFilterSettings(enabled=is_filtered))
    completer = FillCompleter(settings)
    ours, theirs = [], []
    for frame, truth in some_frames(kitti / "completion", prefix, 6):
        ours.append(kitti_metrics(completer.complete(frame).depth, truth)[:2])
        theirs.append(kitti_metrics(fill_ip_basic(frame.sparse_depth), truth)[:2])
    assert len(ours) == 6
    rmse, mae = np.mean(ours, 0) / np.mean(theirs, 0)
    assert rmse < 1.02
    assert mae < 0.97


@pytest.mark.dataset
def test_confidence_tells_the_truth_on_a_drive_it_was_not_fitted_to(kitti):
    completer = FillCompleter()
    total = None
    for frame, truth in some_frames(kitti / "validation", "odo04", 4):
        dense = completer.complete(frame)
        table = reliability(dense.depth, truth, dense.confidence)
        total = table if total is None else total.plus(table)
    assert total.expected_calibration_error < 0.03


@pytest.mark.dataset
def test_the_sky_is_not_trusted(kitti):
    for frame, _ in some_frames(kitti / "completion", "raw0009", 2):
        dense = FillCompleter().complete(frame)
        rows = np.flatnonzero(dense.sparse.any(axis=1))
        assert dense.confidence[: rows[0] - 8].max() <= np.float32(0.2)
        assert dense.depth[: rows[0] - 8].min() > 0


@pytest.mark.dataset
def test_a_sparser_scan_on_a_larger_image_leaves_no_hole(rigs):
    dataset = open_source(rigs)
    index = next(i for i, name in enumerate(dataset.names) if name.startswith("nusc2"))
    frame = dataset[index]
    assert (frame.camera.width, frame.camera.height) == (1600, 900)
    dense = FillCompleter().complete(frame)
    assert dense.depth.min() > 0
    assert np.mean(fill_ip_basic(frame.sparse_depth) == 0) > 0.05


def test_the_filter_is_off_when_switched_off():
    settings = OcclusionFilterSettings(enabled=False)
    projection = dataclasses.replace(ProjectionSettings(), occlusion_filter=settings)
    sparse = wall()
    sparse[22, 32] = 30.0
    dense = FillCompleter(projection).complete(frame_of(sparse))
    assert dense.sparse[22, 32] == 30.0
