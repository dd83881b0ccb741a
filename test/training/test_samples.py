from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from depth_completion_ros.errors import InputError
from depth_completion_ros.geometry.projection import unproject_depth
from depth_completion_ros.settings import ProjectionSettings
from depth_completion_ros.training import appearance
from depth_completion_ros.training.augmentation import PixelPoints
from depth_completion_ros.training.inputs import InputMaker
from depth_completion_ros.training.recipe import AugmentationSettings, DataSettings, SourceChoice
from depth_completion_ros.training.samples import Samples, make_sample
from depth_completion_ros.training.sources import FramePool

EVERYTHING = AugmentationSettings(
    crop=(32, 48), flip=0.5, zoom=(0.8, 1.3), largest_width=90, metric_scale=1.3, rotation=4.0,
    color=0.5, grey=0.3, noise=0.5, night=0.4, rain=0.4, fog=0.4, hold_out=0.3, beams=0.3,
    dropout=0.3, regions=0.3, lidar_noise=0.05, see_through=0.05, calibration=0.2,
)  # fmt: skip


NOTHING = AugmentationSettings()


def sample_of(example, settings=NOTHING, seed=0, **options):
    random = np.random.default_rng(seed)
    return make_sample(example, settings, ProjectionSettings(), random, **options)


def test_without_augmentation_a_sample_is_the_frame(example):
    sample = sample_of(example)
    np.testing.assert_array_equal(sample.frame.image, example.frame.image)
    np.testing.assert_array_equal(sample.frame.sparse_depth, example.frame.sparse_depth)
    np.testing.assert_array_equal(sample.truth, example.truth)
    assert sample.frame.camera == example.frame.camera
    assert not sample.is_held_out


@pytest.mark.parametrize("seed", range(25))
def test_whatever_is_varied_a_sample_is_a_frame_of_the_crop(example, seed):
    sample = sample_of(example, EVERYTHING, seed)
    assert sample.frame.image.shape == (32, 48, 3)
    assert sample.truth.shape == sample.frame.sparse_depth.shape == (32, 48)
    assert (sample.frame.camera.width, sample.frame.camera.height) == (48, 32)
    assert sample.truth.max() <= 60 * 1.3 + 0.01


def test_geometry_keeps_the_shape_of_the_world(example):
    # The wall stays a plane facing the camera whatever the view: its points keep their distance.
    settings = AugmentationSettings(crop=(32, 48), flip=1.0, zoom=(1.2, 1.2), metric_scale=1.5)
    sample = sample_of(example, settings, 3)
    scale = sample.truth.max() / example.truth.max()
    before = unproject_depth(example.truth, example.frame.camera)[example.truth == 12]
    wall = np.isclose(sample.truth, 12 * scale, rtol=1e-4)
    after = unproject_depth(np.where(wall, sample.truth, 0), sample.frame.camera)[wall]
    assert wall.sum() > 50
    # Mirrored: what lay right of the axis lies left of it, as far away, scaled.
    assert -after[:, 0].max() >= before[:, 0].min() * scale - 0.3
    assert -after[:, 0].min() <= before[:, 0].max() * scale + 0.3


def test_samples_follow_from_the_seed(example):
    one, two = sample_of(example, EVERYTHING, 7), sample_of(example, EVERYTHING, 7)
    np.testing.assert_array_equal(one.frame.image, two.frame.image)
    np.testing.assert_array_equal(one.frame.sparse_depth, two.frame.sparse_depth)
    other = sample_of(example, EVERYTHING, 8)
    assert not np.array_equal(one.frame.image, other.frame.image)


@pytest.mark.parametrize("seed", range(12))
def test_held_out_lidar_is_not_shown(example, seed):
    lidar_only = example._replace(truth=None)
    sample = sample_of(lidar_only, seed=seed)
    assert sample.is_held_out
    shown, asked = sample.frame.sparse_depth > 0, sample.truth > 0
    assert not np.any(shown & asked)
    assert shown.any()
    assert asked.any()
    measured = example.frame.sparse_depth
    assert np.array_equal(sample.truth[asked], measured[asked])


def test_dense_depth_is_measured_by_some_lidar(example):
    frame = dataclasses.replace(
        example.frame, sparse_depth=np.zeros_like(example.truth), T_camera_lidar=None
    )
    scene = example._replace(frame=frame)
    counts = [np.count_nonzero(sample_of(scene, seed=s).frame.sparse_depth) for s in range(12)]
    assert min(counts) > 50
    assert max(counts) < 0.8 * example.truth.size
    exact = sample_of(scene, random_points=500).frame.sparse_depth
    assert np.count_nonzero(exact) == 500
    np.testing.assert_array_equal(exact[exact > 0], example.truth[exact > 0])


def test_a_teacher_sees_the_same_view(example):
    settings = AugmentationSettings(crop=(32, 48), flip=0.5, metric_scale=1.4)
    sample = sample_of(example, settings, 5, teacher=lambda e: e.truth)
    np.testing.assert_allclose(sample.teacher, sample.truth, rtol=1e-6)


def test_darkness_and_fog_leave_pictures_pictures(example):
    image = example.frame.image.astype(np.float32) / 255
    random = np.random.default_rng(0)
    dark = appearance.darken(image, example.truth, random)
    assert dark.mean() < 0.7 * image.mean()
    fog = appearance.fog_picture(image, example.truth, 40.0)
    # Fog of 40 m leaves 5 % of the contrast at 40 m and 41 % at 12 m.
    far, near = example.truth > 50, example.truth == 12
    assert np.ptp(fog[far]) < 0.05 * np.ptp(image[far])
    assert np.ptp(fog[near]) == pytest.approx(0.41 * np.ptp(image[near]), rel=0.02)
    for picture in (dark, fog, appearance.rain_picture(image, random)):
        assert picture.dtype == np.float32
        assert picture.shape == image.shape
        assert 0 <= picture.min() <= picture.max() <= 1


def test_fog_takes_far_points_first():
    depth = np.r_[np.full(500, 5.0), np.full(500, 50.0)].astype(np.float32)
    points = PixelPoints(np.zeros((1000, 2)), depth)
    left = appearance.fog_points(points, 100.0, np.random.default_rng(0))
    assert (left.z > 40).sum() < 0.15 * (left.z < 10).sum()


def samples_of(folder, **options) -> Samples:
    choice = SourceChoice(path=str(folder))
    inputs = InputMaker("redc_lite", {})
    settings = options.pop("augmentation", AugmentationSettings())
    return Samples(FramePool([choice], folder), inputs, settings, DataSettings(), seed=1)


def test_a_sample_has_what_the_network_takes(folder):
    arrays = samples_of(folder)[0]
    assert arrays["image"].shape == (3, 64, 96)
    assert arrays["rays"].shape == (2, 64, 96)
    for name in ("sparse", "prefilled", "truth"):
        assert arrays[name].shape == (1, 64, 96)
        assert arrays[name].dtype == np.float32


def test_every_frame_comes_once_per_epoch(folder):
    samples = samples_of(folder)
    images = [samples[number]["image"].mean() for number in range(8)]
    assert sorted(images[:4]) == sorted(images[4:]) == [0, 60, 120, 180]


def test_a_damaged_frame_is_counted_and_replaced(folder, caplog):
    (folder / "a_1_sparse.png").write_bytes(b"no picture")
    samples = samples_of(folder)
    assert len([samples[number] for number in range(8)]) == 8
    assert samples.unusable >= 2
    assert "a_1_sparse.png" in caplog.text


def test_nothing_usable_ends_with_the_reason(folder):
    for path in folder.glob("*_sparse.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"20 frames in a row that cannot be used.*_sparse.png"):
        samples_of(folder)[0]


def test_training_shows_what_completers_show(example, tmp_path):
    from depth_completion_ros import open_completer
    from depth_completion_ros.completers.base import sparse_depth_of
    from depth_completion_ros.networks.checkpoint import save_network
    from depth_completion_ros.networks.registry import build_network

    settings = {"widths": (4, 4, 4, 4), "blocks": (0, 0, 0)}
    model = tmp_path / "redc_lite.safetensors"
    save_network(build_network("redc_lite", **settings), model)
    sparse = sparse_depth_of(example.frame, ProjectionSettings())
    shown = InputMaker("redc_lite", settings).arrays(example.frame, sparse)
    with open_completer("redc_lite", backend="torch", device="cpu", weights=str(model)) as c:
        used = c.prepare(example.frame, sparse).arrays
    assert shown.keys() == used.keys()
    for name, array in shown.items():
        # 96x64 needs no padding; completers hand over images as they come.
        given = used[name][0]
        given = given.transpose(2, 0, 1) if name == "image" else given
        np.testing.assert_allclose(array, given, rtol=1e-6, err_msg=name)
