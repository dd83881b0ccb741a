"""Stamps as whole nanoseconds."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_completion_ros.errors import InputError
from depth_completion_ros.messages.headers import header_fields, split_stamp, stamp_ns


def test_a_stamp_is_exact_nanoseconds():
    stamp = SimpleNamespace(sec=1_700_000_000, nanosec=999_999_999)
    assert stamp_ns(stamp) == 1_700_000_000_999_999_999


@pytest.mark.parametrize(
    ("ns", "parts"), [(0, (0, 0)), (1_500_000_000, (1, 500_000_000)), (-1, (-1, 999_999_999))]
)
def test_a_stamp_is_split_with_positive_nanoseconds(ns, parts):
    assert split_stamp(ns) == parts


@given(st.integers(-(2**31) * 10**9, 2**31 * 10**9 - 1))
def test_splitting_and_reading_are_inverse(ns):
    sec, nanosec = split_stamp(ns)
    assert stamp_ns(SimpleNamespace(sec=sec, nanosec=nanosec)) == ns


def test_a_stamp_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match="found 2147483648 s, expected 32 bits"):
        split_stamp(2**31 * 10**9)


def test_header_fields_are_those_of_std_msgs():
    assert header_fields(1_000_000_002, "camera") == {
        "stamp": {"sec": 1, "nanosec": 2},
        "frame_id": "camera",
    }
