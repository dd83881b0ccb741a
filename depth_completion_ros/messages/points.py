"""Point clouds of sensor_msgs/PointCloud2 as arrays, and back.

Not here: moving or projecting points (`geometry/`). Look next at `fields.py` for how the fields
made here get into a message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Float32Array, Float64Array, UInt8Array
from ..errors import InputError
from .fields import byte_array
from .headers import stamp_ns

# sensor_msgs/PointField: INT8 = 1 ... FLOAT64 = 8
_DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
_FLOAT32, _FLOAT64 = 7, 8
_INTENSITY_NAMES = ("intensity", "i")
_TIME_NAMES = ("t", "time", "timestamp", "time_stamp", "offset_time")
# No scan lasts longer, and no driver stamps a cloud farther from its points.
_LONGEST_SCAN = 10.0


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Hold what a completion needs of a cloud.

    Attributes:
        points: (N, 3) or (N, 4) float32 metres in the cloud's frame, the fourth column intensity.
            Non-finite rows stay. May be a view of the message: don't write to it.
        point_times: (N,) float64 seconds after the header's stamp, NaN where the field holds no
            time of this scan; None without a usable time field.
        remark: one line if a time field is there but cannot be understood, else empty.
    """

    points: Float32Array
    point_times: Float64Array | None = None
    remark: str = ""


@dataclass(frozen=True)
class _Layout:
    """Where the bytes of a cloud lie, checked against the bytes that are there."""

    data: UInt8Array
    shape: tuple[int, int]
    strides: tuple[int, int]
    order: str
    fields: dict[str, Any]

    def column(self, name: str, *, count: int = 1) -> NDArray[Any]:
        """View `count` neighbouring numbers of every point, (H, W) or (H, W, count)."""
        field = self.fields[name]
        dtype = np.dtype(self.order + _DATATYPES[field.datatype])
        shape, strides = self.shape, self.strides
        if count > 1:
            shape, strides = (*shape, count), (*strides, dtype.itemsize)  # type: ignore[assignment]
        return np.ndarray(shape, dtype, self.data, int(field.offset), strides)


def read_points(msg: Any, *, with_times: bool = True) -> PointCloud:
    """Read a PointCloud2 of any layout; without a copy where it is x, y, z[, intensity] float32.

    A per-point time is read from the first of the fields t, time, timestamp, time_stamp and
    offset_time:

    - integers are nanoseconds after the stamp (Ouster `t`, Livox `offset_time`);
    - floats are seconds after the stamp (Velodyne `time`) or absolute, in seconds (Hesai,
      RoboSense `timestamp`) or nanoseconds (Livox `timestamp`), whichever puts them nearest to
      the stamp; `offset_time` is nanoseconds after it.

    Args:
        msg: anything with the fields of sensor_msgs/PointCloud2, organised or not.
        with_times: False leaves the times out, which saves their conversion.

    Returns:
        The points row by row, one row per point of the message.

    Raises:
        InputError: x, y or z is missing or no float, or the message contradicts itself.
    """
    layout = _checked_layout(msg)
    points = _read_xyz(layout)
    if not with_times:
        return PointCloud(points)
    name = next((name for name in _TIME_NAMES if name in layout.fields), None)
    if name is None:
        return PointCloud(points)
    times, remark = _read_times(layout, name, stamp_ns(msg.header.stamp))
    return PointCloud(points, times, remark)


def _checked_layout(msg: Any) -> _Layout:
    """Compare all that a cloud claims with the bytes it brings, before memory is taken."""
    data = byte_array(msg.data, "points")
    height, width, step = int(msg.height), int(msg.width), int(msg.point_step)
    row_step = int(msg.row_step) if height > 1 else width * step
    fields: dict[str, Any] = {}
    for field in msg.fields:
        fields.setdefault(str(field.name), field)
    if min(height, width, step) < 0 or (step == 0 and height * width > 0):
        text = f"points: found {width}x{height} points of {step} bytes, expected positive numbers"
        raise InputError(text)
    if height * width > 0:
        _check_fields(fields, step)
        if row_step < width * step:
            text = (
                f"points: found row_step {row_step}, expected at least {width * step} "
                f"({width} points of {step} bytes); the driver fills the message wrongly"
            )
            raise InputError(text)
        needed = (height - 1) * row_step + width * step
        if len(data) < needed:
            text = (
                f"points: found {len(data)} bytes of data, expected {needed} for {width}x{height} "
                f"points of {step} bytes; the message is truncated"
            )
            raise InputError(text)
    order = ">" if msg.is_bigendian else "<"
    return _Layout(data, (height, width), (row_step, step), order, fields)


def _check_fields(fields: dict[str, Any], step: int) -> None:
    for name in "xyz":
        if name not in fields:
            found = ", ".join(fields) or "none"
            text = (
                f"points: no field {name!r} (found {found}); expected x, y, z; is 'points' "
                "remapped to another kind of sensor?"
            )
            raise InputError(text)
        if fields[name].datatype not in (_FLOAT32, _FLOAT64):
            kind = _DATATYPES.get(fields[name].datatype, fields[name].datatype)
            text = f"points: field {name!r} has datatype {kind}, expected float32 or float64"
            raise InputError(text)
    for name in ("x", "y", "z", *_INTENSITY_NAMES, *_TIME_NAMES):
        if name not in fields:
            continue
        field = fields[name]
        if field.datatype not in _DATATYPES:
            text = f"points: field {name!r} has datatype {field.datatype}, expected 1 to 8"
            raise InputError(text)
        end = int(field.offset) + np.dtype(_DATATYPES[field.datatype]).itemsize
        if field.offset < 0 or end > step:
            text = (
                f"points: field {name!r} ends at byte {end} of a point, expected at most "
                f"point_step {step}"
            )
            raise InputError(text)


def _read_xyz(layout: _Layout) -> Float32Array:
    height, width = layout.shape
    if 0 in layout.shape:
        return np.zeros((0, 3), np.float32)
    fields = layout.fields
    names = ["x", "y", "z", *[name for name in _INTENSITY_NAMES if name in fields][:1]]
    native = np.dtype(layout.order + "f4") == np.float32
    in_a_row = all(
        fields[name].datatype == _FLOAT32 and fields[name].offset == fields["x"].offset + 4 * index
        for index, name in enumerate(names)
    )
    if in_a_row and native:
        view = layout.column("x", count=len(names))
        if layout.strides == (width * 4 * len(names), 4 * len(names)):
            return view.reshape(-1, len(names))
        return np.ascontiguousarray(view).reshape(-1, len(names))
    points = np.empty((height, width, len(names)), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for index, name in enumerate(names):
            points[..., index] = layout.column(name)
    return points.reshape(-1, len(names))


def _read_times(layout: _Layout, name: str, stamp: int) -> tuple[Float64Array | None, str]:
    """Turn a time field into seconds after `stamp`, or say why that cannot be done."""
    if 0 in layout.shape:
        return np.zeros(0), ""
    column = layout.column(name)
    if column.dtype.kind in "iu":
        times: Float64Array = column.reshape(-1) * 1e-9
        return _of_this_scan(times), ""
    times = column.reshape(-1).astype(np.float64)
    # A sample tells what the numbers mean; the median leaves out zeros of points without a return.
    known = times[:: 1 + times.size // 1000]
    known = known[np.isfinite(known)]
    middle = float(np.median(known)) if known.size else 0.0
    seconds = stamp * 1e-9
    meanings = (
        [(0.0, 1e-9)] if name == "offset_time" else [(0.0, 1.0), (seconds, 1.0), (seconds, 1e-9)]
    )
    start, unit = min(meanings, key=lambda meaning: abs(middle * meaning[1] - meaning[0]))
    if abs(middle * unit - start) <= _LONGEST_SCAN:
        # Subtract in the unit of the field: float64 holds today's seconds to 0.2 us.
        return _of_this_scan((times - start / unit) * unit), ""
    remark = (
        f"points: field {name!r} holds {middle:.9g}, which is neither seconds after the stamp "
        f"nor near the stamp {stamp * 1e-9:.3f}; point times are ignored"
    )
    return None, remark


def _of_this_scan(times: Float64Array) -> Float64Array:
    """Mark what cannot be a time of this scan, such as the zeros of points without a return."""
    with np.errstate(invalid="ignore"):
        times[~(np.abs(times) <= _LONGEST_SCAN)] = np.nan
    return times


def points_fields(points: Float32Array, point_times: Float64Array | None = None) -> dict[str, Any]:
    """Give the fields of an unorganised PointCloud2.

    Args:
        points: (N, 3) or (N, 4) float32 metres, the fourth column intensity.
        point_times: (N,) seconds after the stamp, written as float32 `time`.

    Returns:
        Fields for `fill_message` and `build_message`, without the header. `data` is a view of
        `points` where its layout allows.

    Raises:
        InputError: an array has the wrong shape.
    """
    if points.ndim != 2 or points.shape[1] not in (3, 4):
        msg = f"points: found shape {points.shape}, expected (N, 3) or (N, 4)"
        raise InputError(msg)
    names = ["x", "y", "z", "intensity"][: points.shape[1]]
    columns = np.ascontiguousarray(points, dtype="<f4")
    if point_times is not None:
        if point_times.shape != (len(points),):
            msg = f"point_times: found shape {point_times.shape}, expected ({len(points)},)"
            raise InputError(msg)
        names.append("time")
        columns = np.column_stack((columns, point_times.astype("<f4")))
    is_dense = bool(np.isfinite(columns[:, :3]).all())
    return _cloud_fields(columns.reshape(1, len(points), len(names)), names, is_dense=is_dense)


def organised_points_fields(
    xyz: Float32Array, rgb: UInt8Array, confidence: Float32Array
) -> dict[str, Any]:
    """Give the fields of a coloured PointCloud2 that lines up with an image.

    Args:
        xyz: (H, W, 3) float32 metres in the optical frame, NaN where there is no point.
        rgb: (H, W, 3) uint8.
        confidence: (H, W) float32 in [0, 1].

    Returns:
        Fields for `fill_message` and `build_message`, without the header: x, y, z, rgb and
        confidence, each float32; rgb is PCL's 0x00RRGGBB in a float's bits.

    Raises:
        InputError: the arrays differ in size.

    Source: depth_image_proc's point_cloud_xyzrgb: organised, not dense, NaN for no point.
    """
    size = xyz.shape[:2]
    if (
        len(size) != 2
        or xyz.shape != (*size, 3)
        or rgb.shape != (*size, 3)
        or confidence.shape != size
    ):
        msg = (
            f"organised points: found xyz {xyz.shape}, rgb {rgb.shape} and confidence "
            f"{confidence.shape}, expected (H, W, 3), (H, W, 3) and (H, W)"
        )
        raise InputError(msg)
    import cv2

    # Bytes B, G, R, 0 are 0x00RRGGBB; interleaving by OpenCV takes a fifth of numpy's time.
    packed = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGRA).view("<u4")[..., 0]
    color = (packed & np.uint32(0x00FFFFFF)).view("<f4")
    columns = np.empty((*size, 5), "<f4")
    planes = [np.ascontiguousarray(plane, np.float32) for plane in (xyz, color, confidence)]
    cv2.mixChannels(planes, [columns], [0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    return _cloud_fields(columns, ["x", "y", "z", "rgb", "confidence"], is_dense=False)


def _cloud_fields(columns: Float32Array, names: list[str], *, is_dense: bool) -> dict[str, Any]:
    height, width, count = columns.shape
    return {
        "height": height,
        "width": width,
        "fields": [
            {"name": name, "offset": 4 * index, "datatype": _FLOAT32, "count": 1}
            for index, name in enumerate(names)
        ],
        "is_bigendian": False,
        "point_step": 4 * count,
        "row_step": 4 * count * width,
        "data": columns.reshape(-1).view(np.uint8),
        "is_dense": is_dense,
    }
