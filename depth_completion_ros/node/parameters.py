"""ROS parameters made from the settings dataclasses, for node and player.

Not here: the settings (`settings.py`) and what is done with them. Descriptors carry help, unit and
range; whole numbers are accepted where a setting is a float, which rclpy alone refuses.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    ParameterType,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from ..errors import InputError
from ..settings import flatten, unflatten
from ..settings_text import allowed_values

SettingsType = TypeVar("SettingsType")

# What rclpy declares by itself; everything else must be one of our settings.
_FOREIGN = ("use_sim_time", "start_type_description_service")
_TYPES = {
    bool: ParameterType.PARAMETER_BOOL,
    int: ParameterType.PARAMETER_INTEGER,
    float: ParameterType.PARAMETER_DOUBLE,
    str: ParameterType.PARAMETER_STRING,
    tuple: ParameterType.PARAMETER_DOUBLE_ARRAY,
}


class NodeParameters(Generic[SettingsType]):
    """Keep the settings of a node and its ROS parameters equal.

    Make the node with `automatically_declare_parameters_from_overrides=True`: then what the user
    gave is there, whatever its type, and misspelled names can be told.

    Attributes:
        settings: the settings as they are now; replaced as a whole, so that any thread may read.
        problems: one line for every value given at the start that was refused, by parameter name;
            setting the parameter to a good value removes it.
        unknown: one line for every parameter given at the start that no setting has.
    """

    def __init__(
        self,
        node: Node,
        defaults: SettingsType,
        *,
        is_fixed: Callable[[], str | None] = lambda: None,
        on_change: Callable[[SettingsType], None] = lambda settings: None,
    ) -> None:
        """Declare every setting of `defaults`.

        Args:
            node: whose parameters to declare.
            defaults: any settings object.
            is_fixed: tells why settings that are not dynamic cannot change now; None if they can.
            on_change: called with the new settings after a change.
        """
        self.settings = defaults
        self.problems: dict[str, str] = {}
        self.unknown: list[str] = []
        self._node = node
        self._is_fixed = is_fixed
        self._on_change = on_change
        self._fields = {name: field for name, field, _ in flatten(defaults)}
        given = self._take_overrides()
        self._read_given(given)
        for name, field, value in list(flatten(self.settings)):
            node.declare_parameter(
                name, _plain(value), describe_setting(field), ignore_override=True
            )
        node.add_pre_set_parameters_callback(self._convert)
        node.add_on_set_parameters_callback(self._check)
        node.add_post_set_parameters_callback(self._apply)

    def _take_overrides(self) -> dict[str, Any]:
        """Give what the user set, undeclared again so that it can be declared with its type."""
        given: dict[str, Any] = {}
        for name, parameter in self._node.get_parameters_by_prefix("").items():
            if name in _FOREIGN or name.startswith("qos_overrides."):
                continue
            self._node.undeclare_parameter(name)
            if name in self._fields:
                given[name] = parameter.value
            else:
                close = difflib.get_close_matches(name, self._fields, n=1)
                hint = f"did you mean {close[0]}?" if close else "it is ignored"
                self.unknown.append(f"parameter {name}: there is no such parameter; {hint}")
        return given

    def _read_given(self, given: dict[str, Any]) -> None:
        """Take all given values together; if that fails, take them one by one to find the bad."""
        try:
            self.settings = unflatten(self.settings, given)
        except InputError:
            for name, value in given.items():
                try:
                    self.settings = unflatten(self.settings, {name: value})
                except InputError as error:
                    self.problems[name] = f"parameter {error}"

    def _convert(self, parameters: list[Parameter]) -> list[Parameter]:
        converted = []
        for parameter in parameters:
            field = self._fields.get(parameter.name)
            value = parameter.value
            if field is not None and isinstance(field.default, float) and type(value) is int:
                parameter = Parameter(parameter.name, value=float(value))
            elif field is not None and parameter.type_ == Parameter.Type.INTEGER_ARRAY:
                parameter = Parameter(parameter.name, value=[float(item) for item in value])
            converted.append(parameter)
        return converted

    def _check(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name in self._fields and parameter.type_ == Parameter.Type.NOT_SET:
                removed = f"{parameter.name}: found no value; a setting cannot be removed"
                return SetParametersResult(successful=False, reason=removed)
        changes = self._changes(parameters)
        why_fixed = self._is_fixed()
        fixed = [name for name in changes if not self._fields[name].metadata["dynamic"]]
        if fixed and why_fixed is not None:
            return SetParametersResult(successful=False, reason=f"{fixed[0]}: {why_fixed}")
        try:
            unflatten(self.settings, changes)
        except InputError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply(self, parameters: list[Parameter]) -> None:
        changes = self._changes(parameters)
        if not changes:
            return
        self.settings = unflatten(self.settings, changes)
        for name in changes:
            self.problems.pop(name, None)
        self._on_change(self.settings)

    def _changes(self, parameters: list[Parameter]) -> dict[str, Any]:
        return {p.name: p.value for p in parameters if p.name in self._fields}


def describe_setting(field: dataclasses.Field[Any]) -> ParameterDescriptor:
    """Turn a setting's declaration into what `ros2 param describe` shows.

    Args:
        field: a field made by `settings.setting`.

    Returns:
        Descriptor with type, help, range and, in words, when a change takes effect.
    """
    meta = field.metadata
    unit = f" [{meta['unit']}]" if meta["unit"] else ""
    constraints = [] if meta["range"] and not meta["length"] else [allowed_values(field)]
    constraints.append(
        "dynamic: taken with the next frame" if meta["dynamic"] else "taken by configure"
    )
    descriptor = ParameterDescriptor(
        type=_TYPES[type(field.default)],
        description=f"{meta['help']}{unit}",
        additional_constraints="; ".join(text for text in constraints if text),
    )
    if meta["range"] and isinstance(field.default, float):
        low, high = meta["range"]
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)
        ]
    elif meta["range"] and isinstance(field.default, int):
        low, high = meta["range"]
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    return descriptor


def _plain(value: Any) -> Any:
    """Give a value as rclpy takes it; it holds an empty list for one of bytes, hence the type."""
    if value == ():
        return Parameter.Type.DOUBLE_ARRAY
    return list(value) if isinstance(value, tuple) else value
