from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from depth_completion_ros.datasets.nyuv2 import NyuV2
from depth_completion_ros.datasets.opening import open_source
from depth_completion_ros.errors import InputError

h5py = pytest.importorskip("h5py", reason="needs the extra nyuv2")


def _write(path: Path, **arrays: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:480, :640]
    rgb = np.stack((columns % 256, rows % 256, np.full((480, 640), 9)))
    content = {"rgb": rgb.astype(np.uint8), "depth": (1 + columns / 640).astype(np.float32)}
    with h5py.File(path, "w") as file:
        for name, array in {**content, **arrays}.items():
            if array is not None:
                file[name] = array
    return path


def test_a_frame_is_halved_and_cropped(tmp_path: Path) -> None:
    frame = NyuV2(_write(tmp_path / "00001.h5"))[0]
    assert frame.image.shape == (228, 304, 3)
    # The first pixel covers columns 16 and 17, rows 12 and 13 of the original.
    assert frame.image[0, 0].tolist() == pytest.approx([16.5, 12.5, 9], abs=0.5)
    assert frame.camera.K[0].tolist() == pytest.approx([259.43, 0, (325.58 + 0.5) / 2 - 8.5])
    assert frame.camera.K[1].tolist() == pytest.approx([0, 259.735, (253.74 + 0.5) / 2 - 6.5])
    assert frame.name == "00001"


def test_five_hundred_pixels_are_given_and_all_are_the_truth(tmp_path: Path) -> None:
    path = _write(tmp_path / "00001.h5")
    dataset = open_source(path)
    sparse, truth = dataset[0].sparse_depth, dataset.ground_truth(0)
    assert sparse is not None
    assert truth is not None
    assert np.count_nonzero(sparse) == 500
    assert np.array_equal(sparse[sparse > 0], truth[sparse > 0])
    # Nearest, not blended: each value is one of the original's.
    assert truth[0, 0] == np.float32(1 + 17 / 640)


def test_the_seed_decides_which_pixels(tmp_path: Path) -> None:
    path = _write(tmp_path / "00001.h5")
    first, again = (NyuV2(path, seed=1)[0].sparse_depth for _ in range(2))
    other = NyuV2(path, seed=2)[0].sparse_depth
    assert first is not None
    assert other is not None
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_folder_is_read_with_its_subfolders(tmp_path: Path) -> None:
    for name in ("val/official/00002.h5", "val/official/00001.h5"):
        _write(tmp_path / name)
    dataset = open_source(tmp_path)
    assert dataset.kind == "nyuv2"
    assert list(dataset.names) == ["val_official_00001", "val_official_00002"]


def test_missing_depth_stays_missing(tmp_path: Path) -> None:
    depth = np.full((480, 640), np.nan, np.float32)
    depth[240, 321] = 2
    depth[241, 321] = 2
    dataset = NyuV2(_write(tmp_path / "a.h5", depth=depth))
    truth, sparse = dataset.ground_truth(0), dataset[0].sparse_depth
    assert truth is not None
    assert sparse is not None
    assert np.count_nonzero(truth) == np.count_nonzero(sparse) == 1


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"depth": None}, "found rgb; expected rgb and depth"),
        ({"rgb": np.zeros((480, 640, 3), np.uint8)}, r"found rgb \(480, 640, 3\) uint8"),
        ({"depth": np.zeros((480, 600))}, r"found rgb .* and depth \(480, 600\), expected"),
    ],
)
def test_another_layout_is_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=rf"a\.h5: {message}"):
        NyuV2(_write(tmp_path / "a.h5", **arrays))[0]


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.h5")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"a\.h5: cannot be read as HDF5") as caught:
        NyuV2(path)[0]
    assert "\n" not in str(caught.value)
