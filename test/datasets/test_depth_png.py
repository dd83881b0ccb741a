from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_completion_ros.datasets.depth_png import (
    read_confidence_png,
    read_depth_png,
    read_sigma_png,
    write_confidence_png,
    write_depth_png,
    write_sigma_png,
)
from depth_completion_ros.errors import InputError


def _row(*values: float) -> np.ndarray:
    return np.array([values], dtype=np.float32)


def test_depth_is_stored_as_metres_times_256(tmp_path: Path) -> None:
    path = tmp_path / "d.png"
    write_depth_png(path, _row(0, 1, 10.5, 80.25))
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16
    assert stored.tolist() == [[0, 256, 2688, 20544]]
    assert read_depth_png(path).tolist() == [[0, 1, 10.5, 80.25]]
    assert read_depth_png(path).dtype == np.float32


def test_depth_is_rounded_and_kept_within_the_format(tmp_path: Path) -> None:
    path = tmp_path / "d.png"
    write_depth_png(path, _row(0.0001, 1 + 0.6 / 256, 255.999, 300, np.nan, np.inf, -1))
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert stored.tolist() == [[1, 257, 65535, 65535, 0, 0, 0]]


def test_confidence_is_stored_in_8_bits(tmp_path: Path) -> None:
    path = tmp_path / "c.png"
    write_confidence_png(path, _row(0, 0.2, 1, 1.5, np.nan))
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint8
    assert stored.tolist() == [[0, 51, 255, 255, 0]]
    assert read_confidence_png(path)[0, 1] == np.float32(0.2)


def test_sigma_without_estimate_stays_infinite(tmp_path: Path) -> None:
    path = tmp_path / "s.png"
    write_sigma_png(path, _row(0.5, np.inf, np.nan, 400, 0))
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert stored.tolist() == [[128, 65535, 65535, 65534, 0]]
    assert read_sigma_png(path).tolist() == [[0.5, np.inf, np.inf, 65534 / 256, 0]]


@pytest.mark.parametrize("image", [np.zeros((2, 3), np.uint8), np.zeros((2, 3, 3), np.uint16)])
def test_a_png_that_holds_no_depth_is_refused(tmp_path: Path, image: np.ndarray) -> None:
    path = tmp_path / "d.png"
    cv2.imwrite(str(path), image)
    with pytest.raises(InputError, match=r"d\.png: found .* expected one of 16 bit"):
        read_depth_png(path)


def _png(path: Path) -> bytes:
    noise = np.random.default_rng(0).uniform(1, 80, (40, 60)).astype(np.float32)
    write_depth_png(path, noise)
    return path.read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.5, 0.99, 0.9999])
def test_a_truncated_png_is_refused_with_its_path(
    tmp_path: Path, share: float, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "d.png"
    data = _png(path)
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match=r"d\.png: found") as caught:
        read_depth_png(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_flipped_bit_in_a_png_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "d.png"
    data = bytearray(_png(path))
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(InputError, match="wrong checksum"):
        read_depth_png(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.png: cannot be read \(No such file"):
        read_depth_png(tmp_path / "none.png")
