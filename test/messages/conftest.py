"""Messages for the tests, made without ROS: plain namespaces with the fields of sensor_msgs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

POINT_FIELD_TYPES = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}


@pytest.fixture(scope="session")
def typestore():
    """Return the message classes of Jazzy as rosbags knows them."""
    typesys = pytest.importorskip("rosbags.typesys")
    return typesys.get_typestore(typesys.Stores.ROS2_JAZZY)


def _header(stamp: int) -> SimpleNamespace:
    sec, nanosec = divmod(stamp, 10**9)
    return SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id="lidar")


@pytest.fixture(scope="session")
def make_cloud():
    """Build a PointCloud2 from a structured array (H, W) or (N,) whose dtype is the layout."""

    def make(array: np.ndarray, *, stamp: int = 0, row_padding: int = 0, counts=()) -> Any:
        rows = np.atleast_2d(array)
        step = rows.dtype.itemsize
        padded = np.zeros((rows.shape[0], rows.shape[1] * step + row_padding), np.uint8)
        padded[:, : rows.shape[1] * step] = rows.view(np.uint8).reshape(rows.shape[0], -1)
        fields = []
        for name in rows.dtype.names:
            kind, offset = rows.dtype.fields[name][:2]
            base = kind.base
            count = int(np.prod(kind.shape)) if kind.shape else 1
            datatype = POINT_FIELD_TYPES[base.str[1:]]
            fields.append(
                SimpleNamespace(name=name, offset=offset, datatype=datatype, count=count)
            )
        orders = {rows.dtype.fields[name][0].base.byteorder for name in rows.dtype.names}
        return SimpleNamespace(
            header=_header(stamp),
            height=rows.shape[0],
            width=rows.shape[1],
            fields=fields,
            is_bigendian=">" in orders,
            point_step=step,
            row_step=padded.shape[1],
            data=padded.reshape(-1),
            is_dense=True,
        )

    return make


@pytest.fixture(scope="session")
def make_image():
    """Build an Image from an array (rows, width[, channels])."""

    def make(
        array: np.ndarray, encoding: str, *, height: int | None = None, row_padding: int = 0
    ) -> Any:
        rows = len(array)
        row = array.nbytes // rows
        padded = np.full((rows, row + row_padding), 77, np.uint8)
        padded[:, :row] = np.ascontiguousarray(array).view(np.uint8).reshape(rows, row)
        return SimpleNamespace(
            header=_header(0),
            height=rows if height is None else height,
            width=array.shape[1],
            encoding=encoding,
            is_bigendian=int(array.dtype.byteorder == ">"),
            step=row + row_padding,
            data=padded.reshape(-1).tobytes(),
        )

    return make
