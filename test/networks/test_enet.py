from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from depth_completion_ros.data import PinholeCamera
from depth_completion_ros.errors import InputError
from depth_completion_ros.geometry.camera import normalised_pixels
from depth_completion_ros.networks.blocks import nearest_measurement
from depth_completion_ros.networks.enet import (
    CX,
    CY,
    FOCAL,
    ENet,
    ENetSettings,
    camera_geometry,
    published_geometry,
    published_position,
)

GOLDEN_WINDOW = (256, 480)  # where the 64x128 vectors lie in the 352x1216 frame


@pytest.fixture(scope="module")
def network(recipe_weights) -> ENet:
    network = ENet(ENetSettings(window=GOLDEN_WINDOW))
    recipe_weights("enet", network)
    return network


def test_every_tensor_has_its_published_name_and_shape(expected_tensors):
    with torch.device("meta"):
        tensors = ENet().state_dict()
    assert {name: tuple(t.shape) for name, t in tensors.items()} == expected_tensors("enet")


def test_depth_and_both_branches_are_the_published_ones(network, golden, recipe_inputs):
    expected = golden("enet")
    image, sparse, truth = recipe_inputs(64, 128)
    output = network(image, sparse)
    for depth, name in zip(
        (output.depth, *output.stages), ("output", "rgb_depth", "d_depth"), strict=True
    ):
        torch.testing.assert_close(depth, expected[name], atol=1e-3, rtol=1e-4)

    known = truth > 0
    parts = zip((0.6, 0.2, 0.2), (output.depth, *output.stages), strict=True)
    loss = sum(share * F.mse_loss(depth[known], truth[known]) for share, depth in parts)
    torch.testing.assert_close(loss.detach(), expected["loss_epoch0"], atol=0, rtol=1e-5)
    network.zero_grad()
    loss.backward()
    gradients = {k.removeprefix("grad/"): v for k, v in expected.items() if k.startswith("grad/")}
    assert len(gradients) == 5
    for name, gradient in gradients.items():
        found = network.get_parameter(name).grad
        tolerance = 1e-3 * gradient.abs().max().item()
        torch.testing.assert_close(found, gradient, atol=tolerance, rtol=0)
    network.zero_grad()


@pytest.mark.slow
def test_full_size_is_the_published_one(network, golden, recipe_inputs, monkeypatch):
    expected = golden("enet")
    image, sparse, _ = recipe_inputs(352, 1216)
    monkeypatch.setattr(network, "settings", ENetSettings())
    with torch.no_grad():
        depth = network(image, sparse).depth
    torch.testing.assert_close(
        depth[:, :, 4::8, 8::16], expected["full_output_sub"], atol=1e-3, rtol=1e-4
    )


def test_geometry_and_pooling_are_the_published_ones(golden):
    expected = golden("cspn")
    corners = published_position(352, 1216, (0, 0), torch.device("cpu"))[0]
    found = torch.stack([corners[:, v, u] for v in (0, -1) for u in (0, -1)], dim=1)
    assert torch.equal(found, expected["position_352x1216_corners"].view(2, 4))
    pooled = nearest_measurement(expected["sparsepool/d"])
    assert torch.equal(pooled, expected["sparsepool/out"])
    assert torch.equal((pooled > 0).float(), expected["sparsepool/valid"])
    assert torch.equal(nearest_measurement(pooled), expected["sparsepool/out2"])


def test_a_centred_window_is_the_default():
    sparse = torch.ones(1, 1, 352, 1216)
    default = ENet(ENetSettings(width=0.03125))._geometry(sparse, None)
    for level, (found, expected) in enumerate(
        zip(default, published_geometry(sparse, (0, 0)), strict=True)
    ):
        assert found.shape == (1, 3, 352 >> level, 1216 >> level)
        assert torch.equal(found, expected)


def test_camera_geometry_unprojects_with_the_real_rays():
    camera = PinholeCamera(64, 32, np.array([[50.0, 0, 31], [0, 40.0, 15], [0, 0, 1]]))
    rays = torch.tensor(normalised_pixels(camera)).permute(2, 0, 1)[None]
    sparse = torch.zeros(1, 1, 32, 64)
    sparse[0, 0, 5, 41] = 20.0
    full, half, *_ = camera_geometry(sparse, rays)
    torch.testing.assert_close(
        full[0, :, 5, 41], torch.tensor([20 * (5 - 15) / 40, 20 * (41 - 31) / 50, 20.0])
    )
    # At half size the cell's centre is at row 4.5, column 40.5 of the full image.
    torch.testing.assert_close(
        half[0, :, 2, 20], torch.tensor([20 * (4.5 - 15) / 40, 20 * (40.5 - 31) / 50, 20.0])
    )


def test_both_geometries_agree_at_full_size_where_the_camera_is_the_published_one():
    K = np.array([[FOCAL, 0, CX], [0, FOCAL, CY], [0, 0, 1]])
    rays = torch.tensor(normalised_pixels(PinholeCamera(1216, 352, K)))
    sparse = torch.full((1, 1, 352, 1216), 10.0)
    ours = camera_geometry(sparse, rays.permute(2, 0, 1)[None])[0]
    published = published_geometry(sparse, (0, 0))[0]
    # The published position divides by 1215 where it multiplies by 1216: a pixel at the far side.
    assert (ours - published).abs().max() < 10 * 1.1 / FOCAL


def test_camera_geometry_asks_for_rays(street):
    image, sparse, _ = street(32, 64)
    network = ENet(ENetSettings(width=0.03125, geometry="camera"))
    with pytest.raises(InputError, match="rays: found none"):
        network(image, sparse)


def test_camera_geometry_changes_the_result_with_the_camera(street):
    image, sparse, _ = street(40, 70)
    network = ENet(ENetSettings(width=0.03125, geometry="camera")).eval()
    rays = torch.rand(1, 2, 40, 70)
    with torch.no_grad():
        near, far = network(image, sparse, rays).depth, network(image, sparse, 3 * rays).depth
    assert near.shape == (1, 1, 40, 70)
    assert not torch.equal(near, far)
