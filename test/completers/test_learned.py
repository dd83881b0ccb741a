from __future__ import annotations

import numpy as np
import pytest

from depth_completion_ros import Frame, open_completer
from depth_completion_ros.errors import InputError

pytest.importorskip("onnxruntime", reason="needs onnxruntime")
torch = pytest.importorskip("torch", reason="needs torch")


def open_onnx(path, **options):
    return open_completer(weights=str(path.with_suffix(".onnx")), **options)


def open_torch(path, **options):
    return open_completer(weights=str(path.with_suffix(".safetensors")), **options)


@pytest.fixture(scope="module")
def trained(model_files):
    """Weights that change the fill a lot."""
    return model_files("trained", spread=0.3)


@pytest.mark.parametrize("opening", [open_onnx, open_torch])
@pytest.mark.parametrize("size", [(75, 106), (64, 96), (33, 47)])
def test_untrained_it_is_fill(street, model_files, opening, size):
    frame = street(*size)
    with opening(model_files("untrained")) as completer, open_completer("fill") as fill:
        dense, filled = completer.complete(frame), fill.complete(frame)
    np.testing.assert_allclose(dense.depth, filled.depth, rtol=1e-6)
    np.testing.assert_array_equal(dense.sparse, filled.sparse)
    assert dense.stamp == 5


def test_a_trained_one_is_not(street, trained):
    frame = street()
    with open_onnx(trained) as completer, open_completer("fill") as fill:
        difference = completer.complete(frame).depth - fill.complete(frame).depth
    assert np.abs(difference).max() > 0.5


@pytest.mark.parametrize("size", [(75, 106), (64, 96)])
def test_the_pipeline_does_what_the_network_does_in_torch(street, trained, size):
    from depth_completion_ros.geometry.camera import normalised_pixels
    from depth_completion_ros.networks.checkpoint import open_network

    frame = street(*size)
    with open_completer("fill") as fill:
        filled = fill.complete(frame)
    network, _ = open_network(trained.with_suffix(".safetensors"))

    def tensor(array: np.ndarray) -> torch.Tensor:
        planes = array.transpose(2, 0, 1) if array.ndim == 3 else array[None]
        return torch.from_numpy(np.ascontiguousarray(planes, np.float32))[None]

    with torch.no_grad():
        expected = network(
            tensor(frame.image),
            tensor(filled.sparse),
            tensor(normalised_pixels(frame.camera)),
            tensor(filled.depth),
        )
    for opening in (open_onnx, open_torch):
        with opening(trained) as completer:
            dense = completer.complete(frame)
        depth, sigma = expected.depth[0, 0].numpy(), expected.sigma[0, 0].numpy()
        np.testing.assert_allclose(dense.depth, depth, atol=5e-3, rtol=1e-3)
        np.testing.assert_allclose(dense.sigma, sigma, atol=5e-3, rtol=1e-3)


def test_sigma_and_confidence_follow_the_calibration_of_the_file(street, model_files):
    # Untrained, sigma is 8.2085 % of the depth, here times 2; 5 % of the depth are allowed, and
    # 0.3 m below 6 m.
    table = '{"sigma_scale": 2, "ratio": [0.25, 0.5, 1], "confidence": [0.3, 0.6, 0.8]}'
    frame = street()
    with open_onnx(model_files("calibrated", calibration=table)) as completer:
        dense = completer.complete(frame)
    np.testing.assert_allclose(dense.sigma, 0.16417 * dense.depth, rtol=1e-4)
    allowed = np.maximum(0.3, 0.05 * dense.depth)
    logarithm = np.interp(np.log(allowed / dense.sigma), np.log([0.25, 0.5, 1]), [0.3, 0.6, 0.8])
    below = dense.confidence > 0.2
    assert below.mean() > 0.5
    np.testing.assert_allclose(dense.confidence[below], logarithm[below], atol=0.015)


def test_nothing_is_sure_above_the_beams_or_far_from_them(street, model_files):
    surest = '{"ratio": [0.1, 0.2], "confidence": [1, 1]}'
    frame = street(160, 200)
    sparse = np.zeros((160, 200), np.float32)
    sparse[80:100:4, 20:60] = 10.0
    frame = Frame(frame.image, frame.camera, sparse_depth=sparse)
    with open_onnx(model_files("sure", calibration=surest)) as completer:
        confidence = completer.complete(frame).confidence
    assert confidence[88, 40] == 1
    assert confidence[:70].max() <= 0.2
    assert confidence[:, 150:].max() <= 0.2


def test_an_empty_cloud_gives_no_estimate(street, trained):
    frame = street()
    nothing = Frame(frame.image, frame.camera, sparse_depth=np.zeros((75, 106), np.float32))
    with open_onnx(trained) as completer:
        dense = completer.complete(nothing)
    assert not dense.depth.any()
    assert not dense.confidence.any()
    assert np.isinf(dense.sigma).all()


def test_a_blind_network_does_not_look_at_the_image(street, model_files, trained):
    frame = street()
    dark = Frame(np.zeros_like(frame.image), frame.camera, sparse_depth=frame.sparse_depth)
    blind = model_files("blind", spread=0.3, modality="depth")
    for path, is_blind in ((blind, True), (trained, False)):
        with open_onnx(path) as completer:
            depths = [completer.complete(f).depth for f in (frame, dark)]
        assert np.array_equal(*depths) == is_blind


def test_a_change_of_camera_is_noticed(street, trained):
    near, far = street(focal=60.0), street(focal=120.0)
    with open_onnx(trained) as completer:
        first = completer.complete(near).depth
        assert np.abs(completer.complete(far).depth - first).max() > 1e-3
        assert np.array_equal(completer.complete(near).depth, first)


def test_the_frame_is_left_as_it_was(street, trained):
    frame = street()
    image, sparse = frame.image.copy(), frame.sparse_depth.copy()
    with open_onnx(trained) as completer:
        dense = completer.complete(frame)
    assert np.array_equal(frame.image, image)
    assert np.array_equal(frame.sparse_depth, sparse)
    assert list(dense.timings) == [
        *("upload", "project", "prepare", "infer", "refine", "download", "total")
    ]


def test_a_graph_for_one_size_takes_no_other(street, model_files, tmp_path):
    from depth_completion_ros.networks.checkpoint import open_network
    from depth_completion_ros.networks.export import export_onnx

    network, _ = open_network(model_files("untrained").with_suffix(".safetensors"))
    export_onnx(network, tmp_path / "fixed.onnx", size=(80, 112))
    with open_onnx(tmp_path / "fixed") as completer:
        assert completer.complete(street(75, 106)).depth.all()
        with pytest.raises(InputError, match=r"128x80 \(padded\), expected 112x80"):
            completer.complete(street(75, 120))
