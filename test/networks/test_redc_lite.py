from __future__ import annotations

import pytest
import torch

from depth_completion_ros.errors import InputError
from depth_completion_ros.networks.redc_lite import (
    ReDCLite,
    ReDCLiteSettings,
    refine_at_half_size,
)

SMALL = ReDCLiteSettings(widths=(4, 8, 8, 8))


def test_the_shipped_form_is_compact():
    with torch.device("meta"):
        network = ReDCLite()
    assert sum(p.numel() for p in network.parameters()) == 610_557 <= 1_500_000
    assert network.inputs == ("image", "sparse", "rays", "prefilled")
    assert ReDCLite(ReDCLiteSettings(modality="depth")).inputs == ("sparse", "rays", "prefilled")


def test_untrained_it_returns_the_fill(street):
    image, sparse, ramp = street(37, 53)
    fill = ramp + 1
    output = ReDCLite(SMALL).eval()(image, sparse, torch.rand(1, 2, 37, 53), fill)
    assert torch.equal(output.depth, fill)
    torch.testing.assert_close(output.sigma, fill * 0.0820850)
    assert [torch.equal(stage, fill) for stage in output.stages] == [True, True]


def test_without_a_fill_the_correction_starts_from_twelve_metres(street):
    image, sparse, _ = street(16, 16)
    nothing = torch.zeros(1, 1, 16, 16)
    output = ReDCLite(SMALL).eval()(image, sparse, torch.rand(1, 2, 16, 16), nothing)
    torch.testing.assert_close(output.depth, torch.full((1, 1, 16, 16), 12.1825))


def test_untrained_the_head_learns_to_correct_weigh_and_doubt(street):
    image, sparse, ramp = street(32, 48)
    network = ReDCLite(SMALL)
    output = network(image, sparse, torch.rand(1, 2, 32, 48), ramp + torch.rand_like(ramp))
    ((output.depth - 2 * ramp).abs() + output.sigma).mean().backward()
    gradient = network.head.weight.grad.abs().sum((1, 2, 3))
    assert gradient.shape == (29,)
    assert (gradient[:11] > 0).all()
    # Equal weights cancel each other: offsets follow once the weights have moved.
    assert (gradient[11:] == 0).all()


def test_corrections_and_refinement_are_limited(street):
    image, sparse, ramp = street(32, 48)
    network = ReDCLite(SMALL).eval()
    torch.nn.init.constant_(network.head.bias, 100.0)
    fill = torch.full_like(ramp, 10.0)
    output = network(image, sparse, torch.rand(1, 2, 32, 48), fill)
    torch.testing.assert_close(output.depth, torch.full_like(fill, 73.8906))  # exp(2) times
    torch.testing.assert_close(output.sigma, output.depth * 7.38906)
    torch.nn.init.normal_(network.head.bias, std=30.0)
    output = network(image, sparse, torch.rand(1, 2, 32, 48), ramp)
    assert (output.depth >= 0.25 * output.stages[-1] - 1e-5).all()


def test_the_pass_moves_depth_by_the_offset_and_repeats_the_border():
    depth = torch.arange(1.0, 17.0).view(1, 1, 4, 4)
    weight, offset = torch.zeros(1, 9, 2, 2), torch.zeros(1, 18, 2, 2)
    # All of the centre's own value is taken away, the value three pixels to the right is added.
    weight[:, 4], weight[:, 0] = -1, 1
    offset[:, 0], offset[:, 1] = 1 + 3, 1
    refined = refine_at_half_size(depth, weight, offset, max_offset=7)
    torch.testing.assert_close(
        refined,
        torch.tensor([[4.0, 4, 4, 4], [8, 8, 8, 8], [12, 12, 12, 12], [16, 16, 16, 16]])[
            None, None
        ],
    )


def test_turning_the_camera_changes_what_it_sees_but_not_its_size(street):
    image, sparse, ramp = street(32, 48)
    network = ReDCLite(SMALL).eval()
    torch.nn.init.normal_(network.head.weight, std=0.1)
    rays = torch.rand(1, 2, 32, 48) - 0.5
    depths = [network(image, sparse, r, ramp).depth for r in (rays, 1.5 * rays)]
    assert (depths[0] - depths[1]).abs().max() > 0.01


def test_it_needs_rays_and_an_image_unless_it_is_blind(street):
    image, sparse, ramp = street(16, 16)
    rays = torch.zeros(1, 2, 16, 16)
    with pytest.raises(InputError, match="rays: found none"):
        ReDCLite(SMALL)(image, sparse, None, ramp)
    with pytest.raises(InputError, match="image: found none"):
        ReDCLite(SMALL)(None, sparse, rays, ramp)
    blind = ReDCLiteSettings(widths=(4, 8, 8, 8), modality="depth")
    assert torch.equal(ReDCLite(blind).eval()(None, sparse, rays, ramp).depth, ramp)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"kernel": 2}, "kernel: found 2, expected an odd number"),
        ({"head_kernel": 2}, "head_kernel: found 2, expected an odd number"),
        ({"widths": (8.5, 8, 8, 8)}, "widths: .* expected whole numbers"),
        ({"blocks": (1, 1)}, "blocks: found 2 numbers, expected 3"),
    ],
)
def test_forms_that_cannot_be_are_refused(wrong, words):
    with pytest.raises(InputError, match=words):
        ReDCLiteSettings(**wrong)
