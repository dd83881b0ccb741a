"""What runs on the device against its twins in numpy, bit by bit, on the CPU's tensors."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch

from depth_completion_ros.backends.resident import (
    Lens,
    RecordedFunction,
    ResidentPipeline,
    StagedTensor,
    filter_on_device,
    frame_parameters,
    project_on_device,
)
from depth_completion_ros.data import Frame, PinholeCamera
from depth_completion_ros.errors import BackendError
from depth_completion_ros.geometry.occlusion import cells_of_pixels, filter_sparse, plan_search
from depth_completion_ros.geometry.projection import project_points
from depth_completion_ros.networks.export import Graph
from depth_completion_ros.networks.registry import build_network
from depth_completion_ros.settings import OcclusionFilterSettings, ProjectionSettings

CPU = torch.device("cpu")
SETTINGS = ProjectionSettings()
K = [[180, 0, 100.3], [0, 185, 50.7], [0, 0, 1]]
SKEWED = [[180, 3.5, 100.3], [0, 185, 50.7], [0, 0, 1]]
CAMERAS = {
    "straight": PinholeCamera(200, 100, K),
    "skewed and shifted": PinholeCamera(200, 100, SKEWED, shift=[0.1, 0, 0]),
    "plumb_bob": PinholeCamera(200, 100, K, [-0.3, 0.1, 1e-3, -2e-3, 0.02], "plumb_bob"),
    "rational": PinholeCamera(
        200, 100, K, [0.4, -0.1, 1e-3, 1e-3, 0.02, 0.7, 0.01, 0.01], "rational_polynomial"
    ),
    "tilted": PinholeCamera(
        200,
        100,
        K,
        [-0.2, 0.05, 1e-3, 1e-3, 0, 0, 0, 0, 1e-3, 2e-4, -1e-3, 1e-4, 0.03, -0.02],
        "rational_polynomial",
    ),
    "equidistant": PinholeCamera(200, 100, K, [0.02, -0.01, 1e-3, 0], "equidistant"),
}
# LiDAR axes to the optical frame, 0.3 m above and 0.2 m behind it.
T_FORWARD = np.array([[0, -1, 0, 0], [0, 0, -1, -0.3], [1, 0, 0, -0.2], [0, 0, 0, 1.0]])


def cloud(count: int = 60_000, seed: int = 0) -> np.ndarray:
    """Points all around, some of them not finite."""
    random = np.random.default_rng(seed)
    points = (random.standard_normal((count, 4)) * [12, 12, 2, 1]).astype(np.float32)
    points[::97, 0] = np.nan
    points[::89, 1] = np.inf
    return points


def on_device(points, camera, T, settings=SETTINGS, capacity: int | None = None) -> np.ndarray:
    parameters = torch.from_numpy(frame_parameters(camera, T, settings, len(points)))
    buffer = np.ones((capacity or len(points), 3), np.float32)  # the rest is to be ignored
    buffer[: len(points)] = points[:, :3]
    sparse = project_on_device(
        torch.from_numpy(buffer), parameters, camera.height, camera.width, Lens.of(camera)
    )
    return sparse.numpy()


def filtered_on_device(sparse, camera, T, settings=SETTINGS) -> np.ndarray:
    parameters = torch.from_numpy(frame_parameters(camera, T, settings, 0))
    search = plan_search(camera, settings.occlusion_filter, T)
    cell = torch.from_numpy(cells_of_pixels(np.arange(sparse.size), camera, search))
    kept = filter_on_device(
        torch.from_numpy(sparse), parameters, cell, search.rows, search.columns
    )
    return kept.numpy()


@pytest.mark.parametrize("name", CAMERAS)
def test_projection_is_the_one_of_numpy(name):
    camera, points = CAMERAS[name], cloud()
    expected = project_points(points, camera, T_FORWARD)
    assert (expected > 0).sum() > 500
    np.testing.assert_array_equal(on_device(points, camera, T_FORWARD, capacity=65536), expected)


def test_the_nearest_return_wins_and_ties_go_right_and_down():
    camera = PinholeCamera(4, 3, [[2, 0, 1], [0, 2, 1], [0, 0, 1]])
    # The first three fall on one pixel; the last lies exactly between two, and two.
    points = np.array([(0, 0, 4), (0, 0, 2), (0, 0, 3), (0.5, -0.5, 2)], np.float32)
    depth = on_device(points, camera, np.eye(4))
    assert depth.tolist() == [[0, 0, 0, 0], [0, 2, 2, 0], [0, 0, 0, 0]]


def test_depth_limits_are_those_of_the_frame():
    camera, points = CAMERAS["straight"], cloud()
    settings = ProjectionSettings(min_depth=6.0, max_depth=11.0)
    expected = project_points(points, camera, T_FORWARD, min_depth=6.0, max_depth=11.0)
    np.testing.assert_array_equal(on_device(points, camera, T_FORWARD, settings), expected)


def test_without_points_nothing_is_measured():
    points = np.zeros((0, 3), np.float32)
    assert not on_device(points, CAMERAS["straight"], T_FORWARD, capacity=8).any()


@pytest.mark.parametrize("gap", [0.009, 0.04, 0.001])
def test_the_filter_is_the_one_of_numpy(gap):
    camera = CAMERAS["straight"]
    settings = ProjectionSettings(occlusion_filter=OcclusionFilterSettings(gap=gap))
    sparse = project_points(cloud(20_000), camera, T_FORWARD)
    expected = filter_sparse(sparse, camera, settings.occlusion_filter, T_FORWARD)
    assert 20 < ((sparse > 0) & (expected == 0)).sum() < (sparse > 0).sum()
    np.testing.assert_array_equal(
        filtered_on_device(sparse, camera, T_FORWARD, settings), expected
    )


@pytest.mark.parametrize(
    "filter_settings",
    [OcclusionFilterSettings(enabled=False), OcclusionFilterSettings(baseline=0.0)],
    ids=["switched off", "no baseline"],
)
def test_a_filter_that_finds_nothing_keeps_everything(filter_settings):
    sparse = project_points(cloud(20_000), CAMERAS["straight"], T_FORWARD)
    settings = ProjectionSettings(occlusion_filter=filter_settings)
    kept = filtered_on_device(sparse, CAMERAS["straight"], T_FORWARD, settings)
    np.testing.assert_array_equal(kept, sparse)


@pytest.mark.dataset
def test_a_real_scan_is_projected_and_filtered_as_by_numpy(kitti):
    text = (kitti / "completion" / "raw0009_0000000005_calib.json").read_text()
    calibration = json.loads(text)
    camera = PinholeCamera(*calibration["image_size"], calibration["K"])
    T = np.array(calibration["T_camera_lidar"])
    points = np.fromfile(next((kitti / "drive_0009").rglob("0000000005.bin")), np.float32).reshape(
        -1, 4
    )
    sparse = project_points(points, camera, T)
    np.testing.assert_array_equal(on_device(points, camera, T), sparse)
    expected = filter_sparse(sparse, camera, T_camera_lidar=T)
    assert ((sparse > 0) & (expected == 0)).sum() > 100
    np.testing.assert_array_equal(filtered_on_device(sparse, camera, T), expected)


def street_frame(height: int = 60, width: int = 90, **points_or_map) -> Frame:
    camera = PinholeCamera(width, height, [[80, 0, 44.5], [0, 80, 29.5], [0, 0, 1]])
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3)).astype(np.uint8)
    image = cv2.GaussianBlur(image, (5, 5), 0)
    return Frame(image, camera, T_camera_lidar=T_FORWARD, **points_or_map)


@pytest.fixture(scope="module")
def msg_chn():
    torch.manual_seed(0)
    return Graph(build_network("msg_chn")).eval()


def pipeline_of(graph: Graph) -> ResidentPipeline:
    multiple = graph.network.multiple
    return ResidentPipeline(graph, graph.inputs, graph.outputs, multiple=multiple, device=CPU)


def step_by_step(graph: Graph, frame: Frame) -> dict[str, np.ndarray]:
    sparse = frame.sparse_depth
    if frame.points is not None:
        sparse = project_points(frame.points, frame.camera, frame.T_camera_lidar)
    sparse = filter_sparse(sparse, frame.camera, T_camera_lidar=frame.T_camera_lidar)
    image = torch.from_numpy(frame.image.astype(np.float32)).permute(2, 0, 1)[None]
    with torch.no_grad():
        output = graph.network(image, torch.from_numpy(sparse)[None, None])
    return {"sparse": sparse, "depth": output.depth[0, 0].numpy()}


def test_a_frame_goes_through_as_step_by_step(msg_chn):
    pipeline = pipeline_of(msg_chn)
    # The second cloud has fewer points: what is left of the first in the buffer must not count.
    for points in (cloud(), cloud(20_000, seed=1), cloud(0)):
        frame = street_frame(points=points)
        found, expected = pipeline.run(frame, SETTINGS), step_by_step(msg_chn, frame)
        np.testing.assert_array_equal(found["sparse"], expected["sparse"])
        np.testing.assert_allclose(found["depth"], expected["depth"], atol=1e-4, rtol=1e-5)


def test_frames_of_other_sizes_and_with_maps_take_turns(msg_chn):
    pipeline = pipeline_of(msg_chn)
    sparse = np.zeros((60, 90), np.float32)
    sparse[30:50:3, ::4] = 12.5
    frames = [
        street_frame(points=cloud()),
        street_frame(sparse_depth=sparse),
        street_frame(48, 64, points=cloud()),
        street_frame(points=cloud(seed=2)),
    ]
    for frame in frames:
        found, expected = pipeline.run(frame, SETTINGS), step_by_step(msg_chn, frame)
        np.testing.assert_array_equal(found["sparse"], expected["sparse"])
        np.testing.assert_allclose(found["depth"], expected["depth"], atol=1e-4, rtol=1e-5)


def test_the_network_that_needs_a_fill_of_the_host_is_refused():
    graph = Graph(build_network("redc_lite"))
    with pytest.raises(BackendError, match="resident: the network starts from a fill"):
        pipeline_of(graph)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_a_frame_gives_the_same_and_allocates_nothing(msg_chn):
    device = torch.device("cuda")
    graph = Graph(build_network("msg_chn")).eval()
    graph.load_state_dict(msg_chn.state_dict())
    pipeline = ResidentPipeline(
        graph.to(device),
        graph.inputs,
        graph.outputs,
        multiple=graph.network.multiple,
        device=device,
    )
    allocated = []
    for seed in range(4):
        frame = street_frame(points=cloud(seed=seed))
        found, expected = pipeline.run(frame, SETTINGS), step_by_step(msg_chn, frame)
        np.testing.assert_array_equal(found["sparse"], expected["sparse"])
        np.testing.assert_allclose(found["depth"], expected["depth"], atol=5e-3, rtol=1e-3)
        allocated.append(torch.cuda.memory_stats()["allocation.all.allocated"])
    assert allocated[1:] == allocated[1:2] * 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_a_recorded_function_follows_its_inputs():
    device = torch.device("cuda")
    staged = StagedTensor((4,), torch.float32, device)
    double = RecordedFunction(lambda: {"twice": staged.device * 2}, device)
    for value in (1.0, 5.0):
        staged.upload(np.full(4, value, np.float32))
        assert double()["twice"].tolist() == [2 * value] * 4
