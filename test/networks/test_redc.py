from __future__ import annotations

import pytest
import torch

from depth_completion_ros.errors import InputError
from depth_completion_ros.networks.prefill import fill_nearest, on_host
from depth_completion_ros.networks.redc import ReDC, ReDCSettings
from depth_completion_ros.networks.sampling import refine

TINY = {"width": 0.03125}


@pytest.fixture(scope="module")
def network(recipe_weights) -> ReDC:
    network = ReDC(ReDCSettings(window=(256, 480)))
    recipe_weights("redc", network)
    return network


def loss_both(depth: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    error = (depth - truth)[truth > 0]
    return 0.5 * error.square().mean() + 0.5 * error.abs().mean()


def assert_gradients(network: ReDC, expected: dict[str, torch.Tensor], prefix: str) -> None:
    names = [key for key in expected if key.startswith(prefix)]
    assert len(names) == 10
    for key in names:
        found = network.get_parameter(key.removeprefix(prefix)).grad
        tolerance = 1e-3 * expected[key].abs().max().item()
        torch.testing.assert_close(found, expected[key], atol=tolerance, rtol=0)


def test_every_tensor_has_its_published_name_and_shape(expected_tensors):
    with torch.device("meta"):
        network = ReDC()
    found = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    assert found == expected_tensors("redc")
    assert sum(p.numel() for p in network.parameters()) == 131_778_494


def test_coarse_guidance_and_refined_are_the_published_ones(network, golden, recipe_inputs):
    expected = golden("redc")
    image, sparse, truth = recipe_inputs(64, 128)
    coarse = network.backbone.encode(image, sparse, None)
    weight, offset = network.guidance(coarse.features[0])
    output = network(image, sparse)
    for found, name in (
        (coarse.features[0], "features"),
        (coarse.depth, "coarse"),
        (weight, "weight_sigmoid"),
        (offset, "offset"),
        (output.depth, "refined"),
        (output.stages[-1], "coarse"),
    ):
        torch.testing.assert_close(found, expected[name], atol=1e-3, rtol=1e-4)

    output.stages[-1].retain_grad()
    loss = loss_both(output.depth, truth)
    network.zero_grad()
    loss.backward()
    torch.testing.assert_close(loss.detach(), expected["loss_both"], atol=0, rtol=1e-5)
    largest = expected["grad_coarse"].abs().max().item()
    torch.testing.assert_close(
        output.stages[-1].grad, expected["grad_coarse"], atol=1e-3 * largest, rtol=0
    )
    assert_gradients(network, expected, "grad/")


def test_a_training_step_is_the_published_one(network, golden, recipe_inputs):
    # `train_after/...` of the golden file holds the running statistics from before the step (the
    # recipe's values), so what batch normalisation must make of them is worked out here.
    expected = golden("redc")
    image, sparse, truth = recipe_inputs(64, 128)
    saved = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    normalise = network.backbone.rgb_conv_init[1]
    before = normalise.running_mean.clone()
    assert torch.equal(before, expected["train_after/backbone.rgb_conv_init.1.running_mean"])
    convolved = network.backbone.rgb_conv_init[0](torch.cat((image, sparse), 1))

    network.train()
    network.zero_grad()
    refined = network(image, sparse).depth
    loss = loss_both(refined, truth)
    loss.backward()
    torch.testing.assert_close(refined.detach(), expected["train_refined"], atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(loss.detach(), expected["train_loss_both"], atol=0, rtol=1e-5)
    assert_gradients(network, expected, "train_grad/")
    torch.testing.assert_close(
        normalise.running_mean, 0.9 * before + 0.1 * convolved.detach().mean((0, 2, 3))
    )
    network.eval()
    network.load_state_dict(saved)


@pytest.mark.slow
def test_full_size_is_the_published_one(network, golden, recipe_inputs, monkeypatch):
    expected = golden("redc")
    image, sparse, _ = recipe_inputs(352, 1216)
    monkeypatch.setattr(network.backbone, "settings", ReDCSettings())
    with torch.no_grad():
        output = network(image, sparse)
    for depth, name in ((output.depth, "refined"), (output.stages[-1], "coarse")):
        torch.testing.assert_close(
            depth[:, :, 4::8, 8::16], expected[f"full_{name}_sub"], atol=1e-3, rtol=1e-4
        )


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("head_kernel", [1, 3])
def test_kernel_and_head_kernel_can_be_chosen(street, kernel, head_kernel):
    image, sparse, _ = street(32, 64)
    network = ReDC(ReDCSettings(**TINY, kernel=kernel, head_kernel=head_kernel)).eval()
    with torch.no_grad():
        weight, offset = network.guidance(network.backbone.encode(image, sparse, None).features[0])
        depth = network(image, sparse).depth
    assert weight.shape == (1, kernel**2, 32, 64)
    assert offset.shape == (1, 2 * kernel**2, 32, 64)
    assert network.dkn_weight[0].kernel_size == (head_kernel, head_kernel)
    assert torch.isfinite(depth).all()


def test_an_even_kernel_is_refused():
    with pytest.raises(InputError, match="kernel: found 4, expected an odd number"):
        ReDCSettings(kernel=4)


@pytest.mark.parametrize("refined_map", ["sparse", "nearest"])
def test_variants_of_the_paper_refine_another_map(street, refined_map):
    image, sparse, truth = street(32, 64)
    network = ReDC(ReDCSettings(**TINY, refined_map=refined_map)).eval()
    with torch.no_grad():
        guidance = network.guidance(network.backbone.encode(image, sparse, None).features[0])
        depth = network(image, sparse, prefilled=truth).depth
    start = sparse if refined_map == "sparse" else truth
    torch.testing.assert_close(depth, refine(start, *guidance))


def test_the_nearest_measurement_fills_the_map_that_nobody_gave(street):
    image, sparse, _ = street(32, 64)
    network = ReDC(ReDCSettings(**TINY, refined_map="nearest")).eval()
    filled = on_host(fill_nearest, sparse)
    assert (filled > 0).all()
    with torch.no_grad():
        assert torch.equal(
            network(image, sparse).depth, network(image, sparse, prefilled=filled).depth
        )
