"""Put plain fields into messages, those of rclpy and those of rosbags alike.

Fields are a dict by field name; a nested message is a dict again, a list of messages a list of
dicts, an array a numpy array. The other modules here make such dicts.
Not here: sending or storing the messages (`node/`, `datasets/`).
"""

from __future__ import annotations

import array
import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..data import UInt8Array
from ..errors import InputError
from .headers import header_fields


def fill_message(
    msg: Any, fields: Mapping[str, Any], *, stamp: int | None = None, frame_id: str = ""
) -> Any:
    """Set the attributes of an rclpy message without its slow setters.

    Args:
        msg: message to fill; what `fields` does not name stays. A `data` of the right size is
            written in place, so a message that is published again and again allocates nothing.
        fields: as made by `image_fields`, `points_fields` and the like.
        stamp: nanoseconds for `header.stamp`; None leaves the header alone.
        frame_id: for `header.frame_id`, together with `stamp`.

    Returns:
        `msg`, for use in one expression.

    Raises:
        InputError: the message has no field of a given name.
    """
    if stamp is not None:
        _fill(msg.header, header_fields(stamp, frame_id))
    return _fill(msg, fields)


def _fill(msg: Any, fields: Mapping[str, Any]) -> Any:
    for name, value in fields.items():
        if not hasattr(msg, name):
            text = f"{type(msg).__name__}: found no field {name!r}; is it another message type?"
            raise InputError(text)
        if isinstance(value, Mapping):
            _fill(getattr(msg, name), value)
        elif isinstance(value, np.ndarray):
            _fill_array(msg, name, value)
        elif _is_message_list(value):
            cls = _element_class(msg, name)
            setattr(msg, name, [_fill(cls(), item) for item in value])
        else:
            setattr(msg, name, value)
    return msg


def _fill_array(msg: Any, name: str, value: np.ndarray) -> None:
    """Copy an array into a message in microseconds instead of the setter's 200 ms.

    Only `array.array` passes rclpy's setter quickly, with and without ROS_PYTHON_CHECK_FIELDS.
    """
    current = getattr(msg, name)
    if not isinstance(current, array.array):
        setattr(msg, name, value.copy())
        return
    value = np.ascontiguousarray(value, dtype=np.dtype(current.typecode)).ravel()
    if len(current) == len(value):
        if len(value):
            np.frombuffer(current, value.dtype)[:] = value
        return
    buffer = array.array(current.typecode)
    buffer.frombytes(value.data.cast("B"))
    setattr(msg, name, buffer)


def _is_message_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and isinstance(value[0], Mapping)


def _element_class(msg: Any, name: str) -> Any:
    """Find the class of a message list's elements by the name that the message itself gives.

    The package that is imported is the message's own or one it already needed.
    """
    kind = msg.get_fields_and_field_types()[name]  # such as sequence<sensor_msgs/PointField>
    package, _, cls = kind.partition("<")[2].partition(">")[0].partition("/")
    return getattr(importlib.import_module(f"{package}.msg"), cls)


def build_message(
    typestore: Any,
    typename: str,
    fields: Mapping[str, Any],
    *,
    stamp: int | None = None,
    frame_id: str = "",
) -> Any:
    """Build a message of a rosbags typestore, whose classes want all fields at once.

    Args:
        typestore: of rosbags, for example `get_typestore(Stores.ROS2_JAZZY)`.
        typename: such as `sensor_msgs/msg/PointCloud2`.
        fields: as for `fill_message`; what is not named gets zeros, empty strings and lists.
        stamp, frame_id: for the header; None leaves it zero.

    Returns:
        The message, ready for `typestore.serialize_cdr(message, typename)`.

    Raises:
        InputError: the type has no field of a given name.
    """
    if stamp is not None:
        fields = {"header": header_fields(stamp, frame_id), **fields}
    definitions = dict(typestore.fielddefs[typename][1])
    unknown = sorted(set(fields) - set(definitions))
    if unknown:
        msg = f"{typename}: found no field {unknown[0]!r}; is it another message type?"
        raise InputError(msg)
    values = {
        name: _build_value(typestore, definition, fields.get(name))
        for name, definition in definitions.items()
    }
    return typestore.types[typename](**values)


def _build_value(typestore: Any, definition: Any, value: Any) -> Any:
    kind, detail = definition
    if kind.name == "NAME":
        return build_message(typestore, detail, value or {})
    if kind.name == "BASE":
        zero: Any = "" if detail[0] == "string" else False if detail[0] == "bool" else 0
        if detail[0].startswith("float"):
            zero = 0.0
        return zero if value is None else value
    element, length = detail
    if element[0].name == "BASE" and element[1][0] != "string":
        dtype = np.dtype(element[1][0])
        return np.zeros(length, dtype) if value is None else np.asarray(value, dtype)
    items = [None] * length if value is None else value
    return [_build_value(typestore, element, item) for item in items]


def byte_array(data: Any, name: str) -> UInt8Array:
    """View the data of a message as bytes, whatever the message library made of it.

    Args:
        data: array.array, bytes, numpy array or list of numbers from 0 to 255.
        name: what the message is called in the error.

    Returns:
        (n,) uint8, a view except for lists.

    Raises:
        InputError: these are no bytes.
    """
    try:
        if len(data) == 0:
            return np.zeros(0, np.uint8)
        if isinstance(data, (list, tuple)):
            data = bytes(data)
        return np.frombuffer(data, dtype=np.uint8)
    except (TypeError, ValueError, OverflowError, BufferError):
        msg = f"{name}: found data of type {type(data).__name__}, expected bytes"
        raise InputError(msg) from None
