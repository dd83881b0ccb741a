from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from depth_completion_ros.errors import InputError
from depth_completion_ros.networks.penet import (
    KERNELS,
    PENet,
    PENetSettings,
    iterate,
    normalise_affinity,
    propagate,
    propagate_dilated,
)
from depth_completion_ros.networks.published_refinement import (
    propagate_one_hot,
    transpose_one_hot,
)

NAMES = {1: "penet_c1", 2: "penet", 4: "penet_c4"}
WINDOW = (256, 480)


@pytest.fixture(scope="module")
def network(recipe_weights) -> PENet:
    network = PENet(PENetSettings(window=WINDOW))
    recipe_weights("penet", network)
    return network


@pytest.mark.parametrize("dilation", NAMES)
def test_every_tensor_has_its_published_name_and_shape(expected_tensors, dilation):
    with torch.device("meta"):
        tensors = PENet(PENetSettings(dilation=dilation)).state_dict()
    expected = expected_tensors(NAMES[dilation])
    constants = {f"encoder{kernel}" for kernel in KERNELS}
    assert constants <= set(expected)
    found = {name: tuple(t.shape) for name, t in tensors.items()}
    assert found == {k: shape for k, shape in expected.items() if k not in constants}


@pytest.mark.parametrize(
    ("width", "count"), [(1.0, 131_908_376), (0.5, 33_136_184), (0.25, 8_363_720)]
)
def test_width_scales_the_number_of_parameters(width, count):
    with torch.device("meta"):
        network = PENet(PENetSettings(width=width))
    assert sum(p.numel() for p in network.parameters()) == count


def test_result_and_all_between_are_the_published_ones(network, golden, recipe_inputs):
    expected = golden("penet")
    image, sparse, truth = recipe_inputs(64, 128)
    with torch.no_grad():
        coarse = network.backbone.encode(image, sparse, None)
    output = network(image, sparse)
    torch.testing.assert_close(output.depth, expected["penet_c2"], atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(coarse.features[1][:, ::16], expected["feature_s2_sub"])
    torch.testing.assert_close(output.stages[2], expected["coarse"], atol=1e-3, rtol=1e-4)

    steps = []
    with torch.no_grad():
        for level, suffix, start in ((2, "_s2", coarse.depth), (1, "", output.stages[3])):
            features = coarse.features[level - 1]
            ones = torch.ones_like(features[:, :1])
            kernels, mask = network.confidences(features, ones, level)
            affinities = network.affinities(features, level)
            close = {
                f"kernel_conf{suffix}": kernels,
                f"mask{suffix}_sigmoid": mask,
                f"guide3{suffix}": affinities[0],
                f"guide5{suffix}": affinities[1],
            }
            measured = -F.max_pool2d(torch.where(sparse > 0, -sparse, -1e9), level)
            measured = torch.where(measured < 1e9, measured, 0)
            mask = mask * (measured > 0)
            phases = F.pixel_unshuffle(start, level)
            for kernel, affinity in zip(KERNELS, affinities, strict=True):
                first = propagate(phases, phases, affinity)
                *_, fifth = iterate(phases, affinity, mask, measured, 5)
                sixth = propagate(fifth, phases, affinity)
                close[f"CSPN{kernel}{suffix}_step1"] = F.pixel_shuffle(first, level)
                close[f"CSPN{kernel}{suffix}_step6"] = F.pixel_shuffle(sixth, level)
            for name, found in close.items():
                if name in expected:
                    steps.append(name)
                    torch.testing.assert_close(found, expected[name], atol=1e-3, rtol=1e-4)
    assert len(steps) == 19

    known = truth > 0
    loss = F.mse_loss(output.depth[known], truth[known])
    torch.testing.assert_close(loss.detach(), expected["loss_mse"], atol=0, rtol=1e-5)
    network.zero_grad()
    loss.backward()
    names = [key for key in expected if key.startswith("grad/")]
    assert len(names) == 7
    for key in names:
        found = network.get_parameter(key.removeprefix("grad/")).grad
        tolerance = 1e-3 * expected[key].abs().max().item()
        torch.testing.assert_close(found, expected[key], atol=tolerance, rtol=0)


@pytest.mark.slow
def test_full_size_is_the_published_one(network, golden, recipe_inputs, monkeypatch):
    image, sparse, _ = recipe_inputs(352, 1216)
    monkeypatch.setattr(network.backbone, "settings", PENetSettings())
    with torch.no_grad():
        depth = network(image, sparse).depth
    torch.testing.assert_close(
        depth[:, :, 4::8, 8::16], golden("penet")["full_penet_c2_sub"], atol=1e-3, rtol=1e-4
    )


@pytest.mark.parametrize("dilation", [1, 4])
def test_other_dilations_are_the_published_ones(
    network, recipe_weights, golden, recipe_inputs, dilation
):
    # The backbone has the same weights in all three files, so it is not made again.
    other = PENet(PENetSettings(dilation=dilation), backbone=network.backbone)
    recipe_weights(NAMES[dilation], other)
    image, sparse, _ = recipe_inputs(64, 128)
    with torch.no_grad():
        depth = other(image, sparse).depth
    expected = golden("penet")[f"penet_c{dilation}"]
    torch.testing.assert_close(depth, expected, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("kernel", KERNELS)
def test_one_step_is_the_published_one(golden, kernel, dilation):
    case = golden("cspn")
    part = {name: case[f"k{kernel}_d{dilation}/{name}"] for name in ("guide_raw", "hn", "h0")}
    affinity = normalise_affinity(part["guide_raw"])
    expected = {
        name: case[f"k{kernel}_d{dilation}/{name}"]
        for name in ("kernel_normalised", "kernel_transposed", "out")
    }
    tolerance = {name: 1e-6 * value.abs().max().item() for name, value in expected.items()}
    hn, h0 = (F.pixel_unshuffle(part[name], dilation) for name in ("hn", "h0"))
    for name, found in (
        ("kernel_normalised", affinity),
        ("kernel_transposed", transpose_one_hot(affinity)),
        ("out", F.pixel_shuffle(propagate(hn, h0, affinity), dilation)),
    ):
        torch.testing.assert_close(found, expected[name], atol=4 * tolerance[name], rtol=0)


@pytest.mark.parametrize(("height", "width"), [(16, 24), (4, 2)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_shifts_do_what_one_hot_kernels_do(height, width, dilation):
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    size = (height // dilation, width // dilation)
    affinities = [normalise_affinity(random(2, k * k - 1, *size) - 0.5) for k in KERNELS]
    measured = random(2, 1, *size) * 50 * (random(2, 1, *size) < 0.2)
    stage = (
        random(2, 1, height, width) * 50,
        affinities,
        torch.softmax(random(2, 3, *size), 1),
        random(2, 1, *size) * (measured > 0),
        measured,
    )
    ours = propagate_dilated(*stage, dilation=dilation, steps=3)
    published = propagate_one_hot(*stage, dilation=dilation, steps=3)
    torch.testing.assert_close(ours, published, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_form_for_export_gives_the_same(monkeypatch, kernel):
    affinity = normalise_affinity(torch.randn(2, kernel**2 - 1, 12, 17))
    h, start = torch.rand(2, 4, 12, 17), torch.rand(2, 4, 12, 17)
    expected = propagate(h, start, affinity)
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    torch.testing.assert_close(propagate(h, start, affinity), expected)


def test_a_pixel_that_sends_nothing_keeps_its_depth():
    affinity = normalise_affinity(torch.zeros(1, 8, 2, 3))
    depth = torch.arange(6.0).view(1, 1, 2, 3)
    assert torch.equal(propagate(depth, depth, affinity), depth)


def test_an_unpublished_dilation_is_refused():
    with pytest.raises(InputError, match="dilation: found 3, expected 1, 2 or 4"):
        PENetSettings(dilation=3)
