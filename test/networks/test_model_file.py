from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from depth_completion_ros.errors import ModelFileError
from depth_completion_ros.networks.model_file import (
    Calibration,
    ModelDescription,
    calibration_text,
    read_safetensors_metadata,
)

PATH = Path("a.onnx")
GOOD = {
    "network": "redc_lite",
    "settings": '{"kernel": 3}',
    "version": "0.1.0",
    "inputs": "sparse rays prefilled",
    "outputs": "correction log_sigma weight offset",
    "multiple": "16",
    "size": "352 1216",
}


def test_metadata_become_a_description():
    calibration = Calibration(sigma_scale=1.5, ratio=(0.5, 1, 2), confidence=(0.2, 0.5, 0.9))
    model = ModelDescription.from_metadata(
        PATH, {**GOOD, "calibration": calibration_text(calibration)}
    )
    assert model.network == "redc_lite"
    assert model.settings == {"kernel": 3}
    assert model.inputs == ("sparse", "rays", "prefilled")
    assert model.size == (352, 1216)
    assert model.calibration == calibration
    assert model.text["version"] == "0.1.0"


def test_the_table_is_linear_in_the_logarithm_and_constant_beyond():
    calibration = Calibration(ratio=(0.5, 1, 2), confidence=(0.2, 0.5, 0.9))
    table = calibration.table(np.log([0.1, 0.5, np.sqrt(0.5), 1, np.sqrt(2), 2, 9]))
    np.testing.assert_allclose(table, [0.2, 0.2, 0.35, 0.5, 0.7, 0.9, 0.9], rtol=1e-6)


def test_uncalibrated_errors_are_laplaces():
    ratio = np.array(Calibration().ratio)
    np.testing.assert_allclose(
        Calibration().confidence, 1 - np.exp(-np.sqrt(2) * ratio), atol=1e-3
    )


@pytest.mark.parametrize("name", ["network", "settings", "version"])
def test_files_of_others_are_refused(name):
    metadata = {key: value for key, value in GOOD.items() if key != name}
    with pytest.raises(ModelFileError, match=rf"a\.onnx: no {name} in its metadata; expected"):
        ModelDescription.from_metadata(PATH, metadata)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"settings": "{"}, "its metadata cannot be read"),
        ({"calibration": '{"nothing": 1}'}, "its metadata cannot be read"),
        ({"calibration": '{"ratio": [1, 1], "confidence": [0, 1]}'}, "rising from above 0"),
        ({"calibration": '{"ratio": [1, 2], "confidence": [0, 1.5]}'}, "confidences from 0 to 1"),
        ({"calibration": '{"ratio": [1], "confidence": [0]}'}, "found 1 ratios"),
        ({"outputs": "depth"}, "which this version cannot use; export it again"),
        ({"inputs": "sparse radar"}, "from sparse radar to correction"),
    ],
)
def test_metadata_that_cannot_be_used_are_refused_in_one_line(wrong, words):
    with pytest.raises(ModelFileError, match=words) as error:
        ModelDescription.from_metadata(PATH, {**GOOD, **wrong})
    assert str(error.value).startswith("a.onnx: ")
    assert "\n" not in str(error.value)


def test_safetensors_are_read_without_their_library(tmp_path):
    header = json.dumps({"__metadata__": {"network": "redc"}}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(100))
    assert read_safetensors_metadata(path) == {"network": "redc"}


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 99, bytes([4, 0, 0, 0, 0, 0, 0, 0])])
def test_damaged_safetensors_are_refused(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"a\.safetensors: no \.safetensors file"):
        read_safetensors_metadata(path)
    with pytest.raises(ModelFileError, match="No such file"):
        read_safetensors_metadata(tmp_path / "b.safetensors")
