from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from depth_completion_ros.data import Frame, PinholeCamera
from depth_completion_ros.datasets.base import Dataset, JoinedDataset
from depth_completion_ros.errors import InputError

CAMERA = PinholeCamera(4, 3, np.array(((10, 0, 2), (0, 10, 1), (0, 0, 1))))


class Numbers(Dataset):
    """Frames that hold their own index; index 1 is bad."""

    kind = "numbers"

    def _read_frame(self, index: int) -> Frame:
        if index == 1:
            msg = "the frame is bad"
            raise InputError(msg)
        return Frame(
            image=np.full((3, 4, 3), index, np.uint8),
            camera=CAMERA,
            sparse_depth=np.zeros((3, 4), np.float32),
            stamp=int(self.times[index]),
            name=self.names[index],
        )


def test_one_bad_frame_names_the_source_and_itself() -> None:
    numbers = Numbers(Path("here"), ["a", "b", "c"])
    with pytest.raises(InputError, match=r"^here: frame b: the frame is bad$"):
        numbers[1]
    assert numbers[2].image[0, 0, 0] == 2


def test_indices_count_from_both_ends_and_stop() -> None:
    numbers = Numbers(Path("here"), ["a", "b", "c"])
    assert numbers[-1].name == "c"
    for index in (3, -4):
        with pytest.raises(IndexError, match="expected 0 to 2"):
            numbers[index]


def test_iteration_reads_each_frame_when_it_is_asked_for() -> None:
    frames = iter(Numbers(Path("here"), ["a", "b"]))
    assert next(frames).name == "a"
    with pytest.raises(InputError):
        next(frames)


def test_nominal_stamps_are_never_zero() -> None:
    assert Numbers(Path("here"), ["a", "b"]).times.tolist() == [1_000_000_000, 1_100_000_000]


def test_names_are_there_and_unique() -> None:
    with pytest.raises(InputError, match=r"^here: found no frame in it$"):
        Numbers(Path("here"), [])
    with pytest.raises(InputError, match="two frames called 'a'"):
        Numbers(Path("here"), ["a", "a"])


def test_joined_sources_put_the_part_in_front_of_the_name() -> None:
    parts = {"x": Numbers(Path("x"), ["a"]), "y": Numbers(Path("y"), ["a", "b", "c"])}
    joined = JoinedDataset(Path("root"), parts)
    assert list(joined.names) == ["x_a", "y_a", "y_b", "y_c"]
    assert joined[3].name == "y_c"
    assert joined[3].image[0, 0, 0] == 2
    assert [joined[i].stamp for i in (0, 1, 3)] == [1_000_000_000, 1_100_000_000, 1_300_000_000]
    assert joined.ground_truth(0) is None
    with pytest.raises(InputError, match="frame b: the frame is bad"):
        joined[2]


def test_the_representation_tells_kind_path_and_size() -> None:
    assert repr(Numbers(Path("here"), ["a"])) == "<Numbers numbers 'here', 1 frames>"
