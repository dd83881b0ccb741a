"""Clouds of every layout in use, bit by bit."""

from __future__ import annotations

import contextlib
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from depth_completion_ros.errors import InputError
from depth_completion_ros.messages.fields import build_message
from depth_completion_ros.messages.points import (
    organised_points_fields,
    points_fields,
    read_points,
)

STAMP = 1_700_000_000_250_000_000
XYZ = [("x", "<f4"), ("y", "<f4"), ("z", "<f4")]
XYZI = [*XYZ, ("intensity", "<f4")]


def _layout(names, formats, offsets, itemsize) -> np.dtype:
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": itemsize})


def test_xyzi_is_read_without_a_copy(make_cloud):
    cloud = make_cloud(np.array([(1, 2, 3, 0.5), (4, 5, 6, 0.25)], XYZI))
    points = read_points(cloud).points
    assert points.tolist() == [[1, 2, 3, 0.5], [4, 5, 6, 0.25]]
    assert points.dtype == np.float32
    assert np.shares_memory(points, cloud.data)


def test_xyz_is_read_without_a_copy(make_cloud):
    cloud = make_cloud(np.array([(1, 2, 3), (4, 5, 6)], XYZ))
    points = read_points(cloud).points
    assert points.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert np.shares_memory(points, cloud.data)


def test_pcl_layout_with_padding(make_cloud):
    layout = _layout(["x", "y", "z", "intensity"], ["<f4"] * 4, [0, 4, 8, 16], 32)
    points = read_points(make_cloud(np.array([(1, 2, 3, 9), (4, 5, 6, 8)], layout))).points
    assert points.tolist() == [[1, 2, 3, 9], [4, 5, 6, 8]]
    assert points.flags.c_contiguous


def test_padding_after_xyz_is_no_intensity(make_cloud):
    layout = _layout(["x", "y", "z"], ["<f4"] * 3, [0, 4, 8], 16)
    points = read_points(make_cloud(np.array([(1, 2, 3), (4, 5, 6)], layout))).points
    assert points.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_fields_in_any_order_and_at_odd_offsets(make_cloud):
    layout = _layout(
        ["ring", "z", "i", "x", "y"], ["u1", "<f4", "<u2", "<f4", "<f4"], [0, 1, 5, 11, 7], 17
    )
    points = read_points(make_cloud(np.array([(7, 3, 65535, 1, 2)], layout))).points
    assert points.tolist() == [[1, 2, 3, 65535]]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_both_byte_orders_and_precisions(make_cloud, order, kind):
    layout = [(name, order + kind) for name in ("x", "y", "z", "intensity")]
    points = read_points(make_cloud(np.array([(1.5, -2, 3, 255)], layout))).points
    assert points.tolist() == [[1.5, -2, 3, 255]]
    assert points.dtype == np.float32
    assert points.dtype.isnative


def test_float64_beyond_float32_becomes_infinite_without_a_warning(make_cloud):
    layout = [(name, "<f8") for name in "xyz"]
    points = read_points(make_cloud(np.array([(1e300, 0, 1)], layout))).points
    assert points.tolist() == [[np.inf, 0, 1]]


def test_nan_points_stay_and_is_dense_is_not_believed(make_cloud):
    cloud = make_cloud(np.array([(np.nan, 0, 0), (1, 2, 3)], XYZ))
    assert cloud.is_dense
    points = read_points(cloud).points
    assert np.isnan(points[0, 0])
    assert points[1].tolist() == [1, 2, 3]


def test_an_organised_cloud_with_row_padding_is_read_row_by_row(make_cloud):
    array = np.array([[(1, 0, 0), (2, 0, 0)], [(3, 0, 0), (4, 0, 0)]], XYZ)
    points = read_points(make_cloud(array, row_padding=5)).points
    assert points[:, 0].tolist() == [1, 2, 3, 4]


def test_row_step_of_a_single_row_is_not_believed(make_cloud):
    cloud = make_cloud(np.array([(1, 2, 3), (4, 5, 6)], XYZ))
    cloud.row_step = 0
    assert read_points(cloud).points.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_a_field_with_a_count_is_passed_over(make_cloud):
    layout = np.dtype([("descriptor", "<f4", (3,)), *XYZ])
    array = np.zeros(1, layout)
    array["x"], array["y"], array["z"] = 1, 2, 3
    assert read_points(make_cloud(array)).points.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(("height", "width"), [(1, 0), (0, 0), (0, 5)])
def test_an_empty_cloud_gives_no_points(height, width):
    cloud = SimpleNamespace(
        height=height,
        width=width,
        fields=[],
        is_bigendian=False,
        point_step=0,
        row_step=0,
        data=b"",
        is_dense=True,
    )
    assert read_points(cloud).points.shape == (0, 3)


@pytest.mark.parametrize(
    ("name", "kind", "values"),
    [
        ("t", "<u4", [0, 50_000_000]),
        ("offset_time", "<u4", [0, 50_000_000]),
        ("time", "<f4", [0, 0.05]),
        ("timestamp", "<f8", [STAMP * 1e-9, STAMP * 1e-9 + 0.05]),
        ("timestamp", "<f8", [STAMP, STAMP + 50_000_000]),
        ("time_stamp", ">f8", [STAMP * 1e-9, STAMP * 1e-9 + 0.05]),
        ("offset_time", "<f4", [0, 50_000_000]),
    ],
)
def test_point_times_are_seconds_after_the_stamp(make_cloud, name, kind, values):
    layout = [(axis, kind[0] + "f4") for axis in "xyz"] + [(name, kind)]
    array = np.zeros(2, layout)
    array[name] = values
    cloud = read_points(make_cloud(array, stamp=STAMP))
    assert cloud.point_times == pytest.approx([0, 0.05], abs=5e-7)
    assert cloud.point_times.dtype == np.float64
    assert cloud.remark == ""


def test_times_before_the_stamp_are_negative(make_cloud):
    array = np.zeros(2, [*XYZ, ("time", "<f4")])
    array["time"] = -0.1, 0
    assert read_points(make_cloud(array, stamp=STAMP)).point_times == pytest.approx([-0.1, 0])


def test_absolute_times_on_a_young_simulated_clock(make_cloud):
    array = np.zeros(2, [*XYZ, ("timestamp", "<f8")])
    array["timestamp"] = 5.0, 5.1
    times = read_points(make_cloud(array, stamp=5 * 10**9)).point_times
    assert times == pytest.approx([0, 0.1])


def test_points_without_a_return_have_no_time(make_cloud):
    array = np.zeros(3, [*XYZ, ("timestamp", "<f8")])
    array["timestamp"] = STAMP * 1e-9, 0, STAMP * 1e-9 + 0.1
    times = read_points(make_cloud(array, stamp=STAMP)).point_times
    assert np.isnan(times).tolist() == [False, True, False]


def test_times_of_another_clock_are_left_out_with_a_remark(make_cloud):
    array = np.zeros(2, [*XYZ, ("timestamp", "<f8")])
    array["timestamp"] = 1234.5
    cloud = read_points(make_cloud(array, stamp=STAMP))
    assert cloud.point_times is None
    assert len(cloud.points) == 2
    assert cloud.remark == (
        "points: field 'timestamp' holds 1234.5, which is neither seconds after the stamp nor "
        "near the stamp 1700000000.250; point times are ignored"
    )


def test_times_are_left_out_on_demand(make_cloud):
    array = np.zeros(2, [*XYZ, ("t", "<u4")])
    assert read_points(make_cloud(array), with_times=False).point_times is None


def _broken(make_cloud, **changes):
    cloud = make_cloud(np.array([(1, 2, 3), (4, 5, 6)], XYZ))
    vars(cloud).update(changes)
    return cloud


def test_a_cloud_without_z_says_what_it_has(make_cloud):
    cloud = make_cloud(np.zeros(1, [("x", "<f4"), ("y", "<f4"), ("intensity", "<f4")]))
    with pytest.raises(InputError) as error:
        read_points(cloud)
    assert str(error.value) == (
        "points: no field 'z' (found x, y, intensity); expected x, y, z; is 'points' remapped to "
        "another kind of sensor?"
    )


def test_integer_coordinates_are_refused(make_cloud):
    cloud = make_cloud(np.zeros(1, [("x", "<i4"), ("y", "<i4"), ("z", "<i4")]))
    with pytest.raises(
        InputError, match=r"field 'x' has datatype i4, expected float32 or float64"
    ):
        read_points(cloud)


def test_truncated_data_is_refused(make_cloud):
    cloud = _broken(make_cloud, data=bytes(23))
    with pytest.raises(
        InputError, match="found 23 bytes of data, expected 24 for 2x1 points of 12"
    ):
        read_points(cloud)


def test_a_cloud_that_claims_4_gb_is_refused_before_memory_is_taken(make_cloud):
    cloud = _broken(make_cloud, width=2**32 - 1, height=2**32 - 1, row_step=2**32 - 1)
    with pytest.raises(InputError, match="row_step 4294967295, expected at least 51539607540"):
        read_points(cloud)
    cloud = _broken(make_cloud, width=358_000_000)
    with pytest.raises(InputError, match="found 24 bytes of data, expected 4296000000"):
        read_points(cloud)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"point_step": 0}, "2x1 points of 0 bytes"),
        ({"point_step": 8}, "field 'z' ends at byte 12 of a point, expected at most point_step 8"),
        ({"height": 2, "width": 1, "row_step": 4}, "row_step 4, expected at least 12"),
        ({"width": -2}, "-2x1 points"),
        ({"data": None}, "data of type NoneType"),
        ({"data": [1, 2, 300]}, "data of type list"),
    ],
)
def test_a_cloud_that_contradicts_itself_is_refused(make_cloud, changes, found):
    with pytest.raises(InputError, match=found):
        read_points(_broken(make_cloud, **changes))


def test_an_unknown_datatype_is_refused(make_cloud):
    cloud = make_cloud(np.zeros(1, XYZI))
    cloud.fields[3].datatype = 9
    with pytest.raises(InputError, match="field 'intensity' has datatype 9, expected 1 to 8"):
        read_points(cloud)


def test_points_fields_shares_the_memory_of_a_contiguous_array():
    points = np.arange(8, dtype=np.float32).reshape(2, 4)
    fields = points_fields(points)
    assert np.shares_memory(fields["data"], points)
    assert (fields["height"], fields["width"]) == (1, 2)
    assert (fields["point_step"], fields["row_step"]) == (16, 32)
    assert [field["name"] for field in fields["fields"]] == ["x", "y", "z", "intensity"]
    assert fields["is_dense"] is True


def test_points_fields_with_a_nan_is_not_dense():
    assert points_fields(np.full((1, 3), np.nan, np.float32))["is_dense"] is False


@pytest.mark.parametrize("columns", [3, 4])
@pytest.mark.parametrize("with_times", [False, True])
def test_points_round_trip_through_cdr(typestore, columns, with_times):
    points = np.arange(5 * columns, dtype=np.float32).reshape(5, columns)
    times = np.linspace(0, 0.1, 5) if with_times else None
    name = "sensor_msgs/msg/PointCloud2"
    msg = build_message(typestore, name, points_fields(points, times), stamp=STAMP)
    read = read_points(typestore.deserialize_cdr(typestore.serialize_cdr(msg, name), name))
    assert read.points.tolist() == points.tolist()
    if with_times:
        assert read.point_times == pytest.approx(times, abs=1e-8)
    else:
        assert read.point_times is None


@pytest.mark.parametrize(
    ("points", "times", "found"),
    [
        (
            np.zeros((2, 2), np.float32),
            None,
            r"found shape \(2, 2\), expected \(N, 3\) or \(N, 4\)",
        ),
        (np.zeros((2, 3), np.float32), np.zeros(3), r"point_times: found shape \(3,\)"),
    ],
)
def test_points_of_a_wrong_shape_are_not_written(points, times, found):
    with pytest.raises(InputError, match=found):
        points_fields(points, times)


def test_an_organised_cloud_packs_color_as_pcl_does():
    xyz = np.array([[[1, 2, 3], [np.nan, np.nan, np.nan]]], np.float32)
    rgb = np.array([[[255, 128, 1], [0, 0, 255]]], np.uint8)
    fields = organised_points_fields(xyz, rgb, np.array([[0.75, 0.25]], np.float32))
    assert (fields["height"], fields["width"]) == (1, 2)
    assert (fields["point_step"], fields["row_step"]) == (20, 40)
    names = [(field["name"], field["offset"], field["datatype"]) for field in fields["fields"]]
    assert names == [("x", 0, 7), ("y", 4, 7), ("z", 8, 7), ("rgb", 12, 7), ("confidence", 16, 7)]
    assert fields["is_dense"] is False
    numbers = fields["data"].view("<f4").reshape(2, 5)
    assert numbers[0, :3].tolist() == [1, 2, 3]
    assert np.isnan(numbers[1, :3]).all()
    assert numbers[:, 4].tolist() == [0.75, 0.25]
    assert fields["data"].view("<u4").reshape(2, 5)[:, 3].tolist() == [0xFF8001, 0x0000FF]


def test_an_organised_cloud_of_unequal_sizes_is_not_written():
    with pytest.raises(InputError, match="organised points: found xyz"):
        organised_points_fields(
            np.zeros((2, 2, 3), np.float32), np.zeros((2, 3, 3), np.uint8), np.zeros((2, 2))
        )


NUMBERS = ["f4", "f8"]


@given(data=st.data())
@hypothesis_settings(max_examples=200, deadline=None)
def test_any_layout_gives_back_its_numbers(make_cloud, data):
    order = data.draw(st.sampled_from("<>"))
    kinds = {axis: data.draw(st.sampled_from(NUMBERS)) for axis in "xyz"}
    if data.draw(st.booleans()):
        kinds[data.draw(st.sampled_from(["intensity", "i"]))] = data.draw(
            st.sampled_from(["u1", "i2", "u2", "u4", "f4", "f8"])
        )
    names = data.draw(st.permutations(list(kinds)))
    offset, offsets = 0, []
    for name in names:
        offset += data.draw(st.integers(0, 5))
        offsets.append(offset)
        offset += np.dtype(kinds[name]).itemsize
    layout = _layout(
        names,
        [order + kinds[name] for name in names],
        offsets,
        offset + data.draw(st.integers(0, 7)),
    )
    height, width = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    array = np.zeros((height, width), layout)
    for index, name in enumerate(names):
        array[name] = np.arange(height * width).reshape(height, width) + 10 * index
    points = read_points(make_cloud(array, row_padding=data.draw(st.integers(0, 9)))).points
    columns = ["x", "y", "z", *(name for name in kinds if name not in "xyz")]
    expected = np.stack([array[name].ravel() for name in columns], axis=1)
    assert points.tolist() == expected.tolist()


@given(
    height=st.integers(-1, 2**32 - 1) | st.integers(0, 3),
    width=st.integers(-1, 2**32 - 1) | st.integers(0, 3),
    point_step=st.integers(0, 40),
    row_step=st.integers(0, 2**32 - 1) | st.integers(0, 100),
    fields=st.lists(
        st.tuples(
            st.sampled_from(
                ["x", "y", "z", "intensity", "i", "t", "timestamp", "offset_time", ""]
            ),
            st.integers(0, 40) | st.integers(0, 2**32 - 1),
            st.integers(0, 255) | st.sampled_from([7, 8]),
            st.integers(0, 2**32 - 1),
        ),
        max_size=8,
    ),
    data=st.binary(max_size=300),
    is_bigendian=st.booleans(),
    stamp=st.integers(0, 2**31 - 1),
)
@hypothesis_settings(max_examples=400, deadline=None)
def test_any_message_gives_points_or_an_input_error(
    height, width, point_step, row_step, fields, data, is_bigendian, stamp
):
    msg = SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=stamp, nanosec=0)),
        height=height,
        width=width,
        point_step=point_step,
        row_step=row_step,
        data=data,
        is_bigendian=is_bigendian,
        is_dense=False,
        fields=[
            SimpleNamespace(name=name, offset=offset, datatype=datatype, count=count)
            for name, offset, datatype, count in fields
        ],
    )
    with contextlib.suppress(InputError):
        cloud = read_points(msg)
        assert cloud.points.shape[0] == height * width
        assert cloud.points.shape[1] in (3, 4)
        assert cloud.point_times is None or cloud.point_times.shape == (height * width,)


def test_a_large_cloud_is_read_in_under_a_millisecond(make_cloud):
    cloud = make_cloud(np.zeros(120_000, XYZI))
    durations = []
    for _ in range(20):
        start = time.perf_counter()
        read_points(cloud)
        durations.append(time.perf_counter() - start)
    assert min(durations) < 1e-3


@pytest.mark.ros
def test_sensor_msgs_py_reads_the_same_points(make_cloud):
    pytest.importorskip("sensor_msgs", reason="no sensor_msgs here")
    theirs = pytest.importorskip(
        "sensor_msgs_py.point_cloud2",
        reason="no sensor_msgs_py here; it comes with an installed ROS",
    )
    from sensor_msgs.msg import PointCloud2

    from depth_completion_ros.messages.fields import fill_message

    generator = np.random.default_rng(0)
    layouts = [
        np.dtype(XYZI),
        _layout(["x", "y", "z", "intensity"], ["<f4"] * 4, [0, 4, 8, 16], 32),
        _layout(
            ["z", "y", "x", "i", "t"], ["<f8", "<f8", "<f8", "<u2", "<u4"], [3, 11, 20, 1, 30], 37
        ),
        np.dtype([(name, ">f4") for name in ("y", "x", "z")]),
    ]
    for layout in layouts:
        array = np.zeros((3, 5), layout)
        for name in layout.names:
            array[name] = generator.integers(0, 1000, (3, 5))
        cloud = make_cloud(array)
        fields = vars(cloud) | {"fields": [vars(field) for field in cloud.fields]}
        del fields["header"]
        msg = fill_message(PointCloud2(), fields)
        ours = read_points(msg).points.tolist()
        # Theirs swaps the bytes of a big-endian message in place, so it comes second.
        structured = theirs.read_points(msg, reshape_organized_cloud=False)
        names = [name for name in ("x", "y", "z", "intensity", "i") if name in layout.names]
        expected = np.stack([structured[name] for name in names], axis=1).astype(np.float32)
        assert ours == expected.tolist()


@pytest.mark.ros
def test_organised_points_are_what_sensor_msgs_py_expects():
    pytest.importorskip("sensor_msgs", reason="no sensor_msgs here")
    theirs = pytest.importorskip(
        "sensor_msgs_py.point_cloud2",
        reason="no sensor_msgs_py here; it comes with an installed ROS",
    )
    from sensor_msgs.msg import PointCloud2

    from depth_completion_ros.messages.fields import fill_message

    xyz = np.arange(18, dtype=np.float32).reshape(2, 3, 3)
    confidence = np.full((2, 3), 0.5, np.float32)
    rgb = np.full((2, 3, 3), (1, 2, 3), np.uint8)
    msg = fill_message(PointCloud2(), organised_points_fields(xyz, rgb, confidence))
    structured = theirs.read_points(msg, reshape_organized_cloud=True)
    assert structured.shape[:2] in ((2, 3), (3, 2))
    assert structured["rgb"].view(np.uint32).ravel().tolist() == [0x010203] * 6
    assert np.unique(structured["confidence"]).tolist() == [0.5]
