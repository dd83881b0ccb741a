from __future__ import annotations

import torch
import torch.nn.functional as F

from depth_completion_ros.networks.msg_chn import MSGCHN, average_measurements


def test_every_tensor_has_its_published_name_and_shape(expected_tensors):
    network = MSGCHN()
    found = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    assert found == expected_tensors("msg_chn")
    assert sum(p.numel() for p in network.parameters()) == 363_971


def test_all_three_results_are_the_published_ones(recipe_weights, golden, recipe_inputs):
    network = MSGCHN()
    recipe_weights("msg_chn", network)
    expected = golden("msg_chn")
    image, sparse, truth = recipe_inputs(64, 128)
    output = network(image, sparse)
    known = truth > 0
    loss = torch.zeros(())
    for depth, name in zip(
        (output.depth, *output.stages), ("output_d11", "output_d14", "output_d12"), strict=True
    ):
        torch.testing.assert_close(depth, expected[name], atol=1e-3, rtol=1e-4)
        loss = loss + F.mse_loss(depth[known], truth[known])
    torch.testing.assert_close(loss.detach(), expected["loss_epoch_lt6"], atol=0, rtol=1e-5)

    loss.backward()
    names = [key for key in expected if key.startswith("grad/")]
    assert len(names) == 4
    for key in names:
        found = network.get_parameter(key.removeprefix("grad/")).grad
        tolerance = 1e-3 * expected[key].abs().max().item()
        torch.testing.assert_close(found, expected[key], atol=tolerance, rtol=0)


def test_full_size_is_the_published_one(recipe_weights, golden, recipe_inputs):
    network = MSGCHN()
    recipe_weights("msg_chn", network)
    image, sparse, _ = recipe_inputs(352, 1216)
    with torch.no_grad():
        depth = network(image, sparse).depth
    torch.testing.assert_close(
        depth[:, :, 4::8, 8::16], golden("msg_chn")["full_output_d11_sub"], atol=1e-3, rtol=1e-4
    )


def test_measurements_are_averaged_without_the_empty_pixels():
    sparse = torch.tensor([[10.0, 0, 0, 0], [20, 0, 0, 0]])[None, None]
    found = average_measurements(sparse, 2)
    torch.testing.assert_close(found, torch.tensor([[[[15.0, 0.0]]]]), atol=0.01, rtol=0)
