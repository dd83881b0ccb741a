from __future__ import annotations

import pytest
import torch

from depth_completion_ros.errors import InputError
from depth_completion_ros.networks.lrru import LRRU, LRRUSettings, ResidualBlock, normalise_image
from depth_completion_ros.networks.prefill import on_host, prefill, remove_outliers

COUNTS = {"mini": 329_674, "tiny": 1_309_478, "small": 5_219_806, "base": 20_843_342}


@pytest.mark.parametrize("size", COUNTS)
def test_every_tensor_has_its_published_name_and_shape(expected_tensors, size):
    with torch.device("meta"):
        network = LRRU(LRRUSettings(size=size))
    found = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    assert found == expected_tensors(f"lrru_{size}")
    assert sum(p.numel() for p in network.parameters()) == COUNTS[size]


@pytest.mark.parametrize("size", COUNTS)
def test_all_four_updates_are_the_published_ones(recipe_weights, golden, recipe_inputs, size):
    network = LRRU(LRRUSettings(size=size))
    recipe_weights(f"lrru_{size}", network)
    expected = golden(f"lrru_{size}")
    image, sparse, truth = recipe_inputs(64, 128)
    output = network(image, sparse)
    updates = (*output.stages, output.depth)
    assert len(updates) == 4
    loss = torch.zeros(())
    known = truth > 0
    for n, depth in enumerate(updates):
        torch.testing.assert_close(depth, expected[f"result{n}"], atol=1e-3, rtol=1e-4)
        error = (depth - truth)[known]
        loss = loss + 0.8 ** (3 - n) * (error.abs().mean() + error.square().mean())
    torch.testing.assert_close(loss.detach(), expected["loss"], atol=0, rtol=1e-5)

    loss.backward()
    names = [key for key in expected if key.startswith("grad/")]
    assert len(names) == 8
    for key in names:
        found = network.get_parameter(key.removeprefix("grad/")).grad
        # Rectifiers near 0 make Base's deepest gradients depend on the order of its sums.
        tolerance = (2e-3 if size == "base" else 1e-3) * expected[key].abs().max().item()
        torch.testing.assert_close(found, expected[key], atol=tolerance, rtol=0)


def test_every_step_of_mini_is_the_published_one(recipe_weights, golden, recipe_inputs):
    network = LRRU(LRRUSettings(size="mini"))
    recipe_weights("lrru_mini", network)
    expected = golden("lrru_mini")
    image, sparse, _ = recipe_inputs(64, 128)
    cleared, depth = remove_outliers(sparse), on_host(prefill, sparse)
    torch.testing.assert_close(cleared, expected["in_dep_clear"])
    torch.testing.assert_close(depth, expected["in_ip"])
    normalised = normalise_image(image)
    torch.testing.assert_close(normalised, golden("prefill")["rgb_normalised"])
    with torch.no_grad():
        contexts = network.contexts(normalised, sparse)
        for n, context in enumerate(contexts):
            torch.testing.assert_close(
                context, expected[f"stage_context{n}"], atol=1e-3, rtol=1e-4
            )
            replaced = torch.where(cleared > 0, cleared, depth)
            torch.testing.assert_close(
                replaced, expected[f"stage_input_depth{n}"], atol=1e-3, rtol=1e-4
            )
            if n in (0, 3):
                head = network.get_submodule(f"weight_offset{n}")
                weight, offset = head(replaced, context)
                torch.testing.assert_close(weight, expected[f"weight{n}"], atol=1e-3, rtol=1e-4)
                torch.testing.assert_close(offset, expected[f"offset{n}"], atol=1e-3, rtol=1e-4)
            depth = network.update(n, depth, cleared, context)


def test_the_other_reading_of_minis_survival_is_the_published_one(
    recipe_weights, golden, recipe_inputs
):
    network = LRRU(LRRUSettings(size="mini", survival=0.1))
    recipe_weights("lrru_mini", network)
    image, sparse, _ = recipe_inputs(64, 128)
    with torch.no_grad():
        output = network(image, sparse)
    for n, depth in enumerate((*output.stages, output.depth)):
        expected = golden("lrru_mini")[f"result{n}_prob0.1"]
        torch.testing.assert_close(depth, expected, atol=1e-3, rtol=1e-4)


def test_full_size_of_mini_is_the_published_one(recipe_weights, golden, recipe_inputs):
    network = LRRU(LRRUSettings(size="mini", rows=0))
    recipe_weights("lrru_mini", network)
    image, sparse, _ = recipe_inputs(352, 1216)
    with torch.no_grad():
        output = network(image, sparse)
    for n, depth in enumerate((*output.stages, output.depth)):
        expected = golden("lrru_mini")[f"full_result{n}_sub"]
        torch.testing.assert_close(depth[:, :, 4::8, 8::16], expected, atol=1e-3, rtol=1e-4)


def test_rows_above_the_published_crop_repeat_its_first(street):
    image, sparse, _ = street(80, 48)
    network = LRRU(LRRUSettings(size="mini", rows=32)).eval()
    with torch.no_grad():
        depth = network(image, sparse).depth
        bottom = network(image[:, :, 48:], sparse[:, :, 48:]).depth
    assert torch.equal(depth[:, :, 48:], bottom)
    assert torch.equal(depth[:, :, :48], bottom[:, :, :1].expand(1, 1, 48, 48))


def test_modality_depth_works_without_an_image(street):
    _, sparse, _ = street(35, 50)
    network = LRRU(LRRUSettings(size="mini", modality="depth")).eval()
    assert not any("img" in name or "guide" in name for name in network.state_dict())
    with torch.no_grad():
        depth = network(None, sparse).depth
    assert depth.shape == (1, 1, 35, 50)
    assert torch.isfinite(depth).all()
    with pytest.raises(InputError, match="image: found none"):
        LRRU(LRRUSettings(size="mini"))(None, sparse)


def test_a_given_prefill_is_used(street):
    image, sparse, truth = street(32, 48)
    network = LRRU(LRRUSettings(size="mini")).eval()
    with torch.no_grad():
        made = network(image, sparse).depth
        same = network(image, sparse, prefilled=on_host(prefill, sparse)).depth
        other = network(image, sparse, prefilled=2 * truth).depth
    assert torch.equal(made, same)
    assert not torch.equal(made, other)


def test_a_block_that_does_not_survive_passes_its_input_on():
    block = ResidualBlock(4, 4, survival=1e-9).train()
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(block(x), x.relu())
