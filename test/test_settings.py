"""What can be set: declarations, refusals, and the dotted names of the ROS parameters."""

from __future__ import annotations

import dataclasses

import pytest

from depth_completion_ros.errors import InputError
from depth_completion_ros.settings import (
    CalibrationSettings,
    CompleterSettings,
    OcclusionFilterSettings,
    OutputSettings,
    PlayerSettings,
    ProjectionSettings,
    Settings,
    SyncSettings,
    flatten,
    unflatten,
)

GROUPS = {
    "": ["network", "weights", "backend", "device", "precision"],
    "sync": ["policy", "slop", "timeout", "queue_size", "image_time_offset", "points_time_offset",
             "watchdog"],
    "calibration": ["source", "file", "T_camera_lidar", "camera_frame", "lidar_frame",
                    "projection_model", "timeout"],
    "projection": ["min_depth", "max_depth"],
    "projection.occlusion_filter": ["enabled", "gap", "baseline"],
    "motion": ["source", "fixed_frame", "deskew"],
    "output": ["encoding", "scale", "confidence_threshold", "points_confidence", "min_depth",
               "max_depth", "color_range"],
    "input": ["image_transport"],
    "qos": ["image", "camera_info", "points", "odometry", "outputs", "depth"],
}  # fmt: skip


FIELDS = {
    **{name: (field, value) for name, field, value in flatten(Settings())},
    **{f"player.{name}": (field, value) for name, field, value in flatten(PlayerSettings())},
}


def test_the_parameters_of_the_contract_are_there():
    expected = {f"{group}.{name}".lstrip(".") for group in GROUPS for name in GROUPS[group]}
    names = [name for name, _, _ in flatten(Settings())]
    assert expected <= set(names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_explains_itself(name):
    field, value = FIELDS[name]
    assert field.metadata["help"].endswith(".")
    assert len(field.metadata["help"].split()) >= 2
    if isinstance(value, float):
        assert field.metadata["range"] is not None
    if field.metadata["choices"]:
        assert value in field.metadata["choices"]


def test_the_contracts_defaults():
    settings = Settings()
    assert settings.sync.policy == "approximate"
    assert settings.sync.slop == 0.05
    assert settings.output.points_confidence == 0.5
    assert settings.output.encoding == "32FC1"
    assert settings.calibration.source == "auto"
    assert settings.projection.occlusion_filter.enabled is True
    assert PlayerSettings().stamps == "continued"


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SyncSettings().slop = 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SyncSettings(slop=-0.1), "slop: found -0.1, expected a value from 0 to 10 s"),
        (lambda: SyncSettings(slop="fast"), "slop: found 'fast' (str), expected float"),
        (lambda: SyncSettings(slop=float("nan")), "slop: found nan, expected finite numbers"),
        (lambda: SyncSettings(slop=True), "slop: found True (bool), expected float"),
        (lambda: SyncSettings(queue_size=2.0), "queue_size: found 2.0 (float), expected int"),
        (lambda: SyncSettings(queue_size=0),
         "queue_size: found 0, expected a value from 1 to 1000"),
        (lambda: SyncSettings(policy="newest"),
         "policy: found 'newest', expected one of exact, approximate, latest"),
        (lambda: OcclusionFilterSettings(enabled=1), "enabled: found 1 (int), expected bool"),
        (lambda: OcclusionFilterSettings(gap=0.0),
         "gap: found 0.0, expected a value from 0.001 to 0.1 rad"),
        (lambda: CalibrationSettings(T_camera_lidar=(1.0, 2.0)),
         "T_camera_lidar: found 2 numbers, expected 0 or 16"),
        (lambda: CalibrationSettings(T_camera_lidar="none"),
         "T_camera_lidar: found 'none', expected a list of numbers"),
        (lambda: CalibrationSettings(T_camera_lidar=None),
         "T_camera_lidar: found None, expected a list of numbers"),
        (lambda: ProjectionSettings(min_depth=5.0, max_depth=5.0),
         "min_depth: found minimum 5 and maximum 5, expected minimum < maximum"),
        (lambda: OutputSettings(color_range=(80.0, 0.0)),
         "color_range: found minimum 80 and maximum 0, expected minimum < maximum"),
        (lambda: OutputSettings(color_range=(0.0, 2000.0)),
         "color_range: found (0.0, 2000.0), expected a value from 0 to 1000 m"),
        (lambda: OutputSettings(min_depth=300.0),
         "min_depth: found minimum 300 and maximum 250, expected minimum < maximum"),
    ],
)  # fmt: skip
def test_wrong_values_are_refused(make, message):
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value) == message


def test_both_ends_of_a_range_are_allowed():
    assert SyncSettings(slop=0.0).slop == 0.0
    assert SyncSettings(slop=10.0).slop == 10.0


def test_whole_numbers_may_stand_for_floats():
    slop = SyncSettings(slop=1).slop
    assert (slop, type(slop)) == (1.0, float)


def test_lists_become_tuples_of_floats():
    found = CalibrationSettings(T_camera_lidar=list(range(16))).T_camera_lidar
    assert found == tuple(float(n) for n in range(16))


def test_flat_values_make_the_settings_again():
    settings = Settings(
        completer=CompleterSettings(network="fill"),
        sync=SyncSettings(policy="latest", slop=0.02),
        projection=ProjectionSettings(
            max_depth=80.0, occlusion_filter=OcclusionFilterSettings(enabled=False)
        ),
    )
    values = {name: value for name, _, value in flatten(settings)}
    assert unflatten(Settings(), values) == settings
    assert unflatten(Settings(), values) != Settings()


def test_names_that_are_not_given_keep_their_value():
    base = Settings(sync=SyncSettings(slop=0.02))
    changed = unflatten(base, {"projection.occlusion_filter.enabled": False, "network": "fill"})
    assert changed.sync is base.sync
    assert changed.completer.network == "fill"
    assert changed.projection.occlusion_filter.enabled is False
    assert base.projection.occlusion_filter.enabled is True


def test_a_single_group_can_be_named_as_within_all():
    changed = unflatten(SyncSettings(), {"sync.slop": 0.01}, "sync.")
    assert changed.slop == 0.01


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(InputError) as caught:
        unflatten(Settings(), {"sync.slope": 0.1})
    assert str(caught.value).startswith("unknown setting 'sync.slope'; expected one of ")
    assert " sync.slop," in str(caught.value)


def test_a_refusal_names_the_whole_parameter():
    with pytest.raises(
        InputError, match=r"^projection\.occlusion_filter\.gap: found 1\.0, expect"
    ):
        unflatten(Settings(), {"projection.occlusion_filter.gap": 1.0})


def test_what_a_running_node_takes_is_declared():
    dynamic = {name for name, field, _ in flatten(Settings()) if field.metadata["dynamic"]}
    assert dynamic >= {
        "projection.min_depth",
        "projection.occlusion_filter.enabled",
        "projection.occlusion_filter.gap",
        "output.confidence_threshold",
    }
    assert not dynamic & {"network", "backend", "sync.policy", "calibration.source", "qos.image"}


@pytest.mark.parametrize("name", FIELDS)
def test_types_are_those_a_ros_parameter_can_have(name):
    _, value = FIELDS[name]
    assert type(value) in (bool, int, float, str, tuple)
    if type(value) is tuple:
        assert all(type(item) is float for item in value)
