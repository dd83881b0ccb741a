from __future__ import annotations

import numpy as np
import pytest

from depth_completion_ros import Frame, PinholeCamera, open_completer
from depth_completion_ros.errors import BackendError, InputError
from depth_completion_ros.settings import ProjectionSettings


def test_auto_is_fill_while_no_network_is_shipped():
    with open_completer() as completer:
        assert (completer.name, completer.backend, completer.device) == ("fill", "opencv", "cpu")


def test_an_unknown_network_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"network: found 'pennet', expected auto or one of fill"):
        open_completer("pennet")


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"backend": "tensorrt"}, "backend: found 'tensorrt', but fill runs with auto or opencv"),
        ({"device": "cuda"}, "device: found 'cuda', but fill runs with auto or cpu"),
        ({"precision": "int8"}, "precision: found 'int8', but fill runs with auto or fp32"),
    ],
)
def test_fill_refuses_what_it_cannot_run_on(options, found):
    with pytest.raises(BackendError, match=found):
        open_completer("fill", **options)


def test_fill_refuses_weights():
    with pytest.raises(InputError, match=r"weights: found 'a\.onnx', but fill has no weights"):
        open_completer("fill", weights="a.onnx")


def test_settings_reach_the_completer():
    settings = ProjectionSettings(max_depth=20.0)
    sparse = np.zeros((9, 9), np.float32)
    sparse[4, 4] = 30.0
    camera = PinholeCamera(9, 9, np.array([[9.0, 0, 4], [0, 9.0, 4], [0, 0, 1]]))
    frame = Frame(np.zeros((9, 9, 3), np.uint8), camera, sparse_depth=sparse)
    with open_completer("fill", settings=settings) as completer:
        assert not completer.complete(frame).depth.any()
