from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from depth_completion_ros.errors import InputError
from depth_completion_ros.networks.cdspn import (
    CDSPN,
    CDSPNBackbone,
    CDSPNSettings,
    CoordinateAttention,
    SeparableLayer,
    SqueezeExcitation,
    enlarge,
)

REFINEMENTS = ("none", "da-cspn++", "cspn", "cspn++", "cspn++ resource", "deformable")


@pytest.mark.parametrize(
    ("width", "backbone", "refined"),
    [(1, 268_030, 365_134), (2, 1_023_326, 1_217_198), (3, 2_266_046, 2_556_686)],
)
def test_width_scales_the_number_of_parameters(width, backbone, refined):
    # The thesis rounds to 0.4, 1.2 and 2.6 million with the refinement.
    settings = CDSPNSettings(width=width)
    with torch.device("meta"):
        networks = CDSPNBackbone(settings), CDSPN(settings)
    counts = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert counts == [backbone, refined]


@pytest.mark.parametrize(("attention", "share"), [("squeeze", 1.35), ("coordinate", 1.14)])
def test_attention_adds_parameters(attention, share):
    with torch.device("meta"):
        networks = [CDSPN(CDSPNSettings(attention=a)) for a in (attention, "none")]
    more, plain = (sum(p.numel() for p in network.parameters()) for network in networks)
    assert more / plain == pytest.approx(share, abs=0.005)


def test_features_have_the_sizes_of_the_table(street):
    image, sparse, _ = street(32, 48)
    backbone = CDSPNBackbone().eval()
    with torch.no_grad():
        output = backbone.encode(image, sparse, None)
    shapes = [tuple(f.shape[1:]) for f in output.features]
    assert shapes == [(64, 32, 48), (64, 16, 24), (128, 8, 12)]
    assert backbone.feature_channels == (64, 64, 128)


def test_the_branches_are_fused_by_their_confidences(street):
    image, sparse, _ = street(16, 16)
    backbone = CDSPNBackbone().eval()
    seen = []
    for name in ("rgb_d5", "depth_d4"):
        layer = backbone.get_submodule(name)
        layer.register_forward_hook(lambda _, __, result: seen.append(result))
    with torch.no_grad():
        output = backbone(image, sparse)
    (color, color_logit), (depth, depth_logit) = (torch.split(x, 1, 1) for x in seen)
    share = torch.sigmoid(color_logit - depth_logit)
    expected = share * color + (1 - share) * depth
    torch.testing.assert_close(output.depth, expected)
    assert torch.equal(output.stages[0], color)
    assert torch.equal(output.stages[1], depth)
    assert backbone.depth_init.depthwise.in_channels == 2


def test_a_layer_follows_its_definition():
    torch.manual_seed(1)
    layer = SeparableLayer(3, 3).eval()
    layer.norm.weight.data.uniform_(0.5, 1.5)
    layer.norm.running_mean.uniform_(-1, 1)
    x = torch.randn(2, 3, 5, 6)
    padded = F.pad(x, (1, 1, 1, 1))
    with torch.no_grad():
        found = layer(x)
        expected = torch.zeros(2, 3, 5, 6)
        for dy in range(3):
            for dx in range(3):
                tap = layer.depthwise.weight[:, 0, dy, dx].view(3, 1, 1)
                expected += tap * padded[:, :, dy : dy + 5, dx : dx + 6]
        expected = torch.einsum("oi,bihw->bohw", layer.pointwise.weight[:, :, 0, 0], expected)
        scale = layer.norm.weight / (1 + layer.norm.eps) ** 0.5
        expected = (expected - layer.norm.running_mean.view(3, 1, 1)) * scale.view(3, 1, 1)
        torch.testing.assert_close(found, (expected + x).relu())


@pytest.mark.parametrize(("channels", "stride"), [((3, 4), 1), ((3, 3), 2)])
def test_a_layer_without_matching_shapes_has_no_residual(channels, stride):
    layer = SeparableLayer(*channels, stride=stride).eval()
    layer.pointwise.weight.data.zero_()
    x = torch.ones(1, 3, 4, 6)
    assert torch.equal(layer(x), torch.zeros(1, channels[1], 4 // stride, 6 // stride))


def test_enlarging_is_bilinear():
    found = enlarge(torch.tensor([[[[0.0, 4.0]]]]))
    assert torch.equal(found, torch.tensor([[[[0.0, 1.0, 3.0, 4.0]] * 2]]))


def test_squeezing_looks_at_the_whole_image():
    attention = SqueezeExcitation(4)
    x = torch.rand(1, 4, 5, 6)
    pooled = x.mean((2, 3))
    hidden = F.relu(pooled @ attention.squeeze.weight[:, :, 0, 0].T + attention.squeeze.bias)
    weights = torch.sigmoid(hidden @ attention.excite.weight[:, :, 0, 0].T + attention.excite.bias)
    torch.testing.assert_close(attention(x), x * weights[:, :, None, None])


def test_coordinate_attention_weighs_rows_and_columns():
    attention = CoordinateAttention(4).eval()
    x = torch.rand(1, 4, 5, 6)
    weights = attention(x) / x
    # What it multiplies with is a product of one factor per row and one per column.
    crossed = weights[..., :1, :1] * weights[..., 1:, 1:]
    torch.testing.assert_close(crossed, weights[..., :1, 1:] * weights[..., 1:, :1])
    assert weights.std() > 0


@pytest.mark.parametrize(
    ("refinement", "attention"),
    [*((r, "none") for r in REFINEMENTS), ("none", "squeeze"), ("none", "coordinate")],
)
def test_every_refinement_fits(street, tmp_path, refinement, attention):
    torch.manual_seed(3)
    settings = CDSPNSettings(refinement=refinement, attention=attention)
    network = CDSPN(settings).eval()
    image, sparse, _ = street(35, 51, batch=2)
    with torch.no_grad():
        both = network(image, sparse)
        second = network(image[1:], sparse[1:])
        empty = network(torch.zeros_like(image), torch.zeros_like(sparse))
    assert both.depth.shape == (2, 1, 35, 51)
    torch.testing.assert_close(both.depth[1:], second.depth, atol=1e-4, rtol=1e-4)
    assert torch.isfinite(both.depth).all()
    assert torch.isfinite(empty.depth).all()
    assert len(both.stages) == {"none": 2, "da-cspn++": 4}.get(refinement, 3)

    torch.save(network.state_dict(), tmp_path / "cdspn.pth")
    again = CDSPN(settings).eval()
    again.load_state_dict(torch.load(tmp_path / "cdspn.pth", weights_only=True))
    with torch.no_grad():
        assert torch.equal(again(image, sparse).depth, both.depth)


def test_an_unknown_refinement_is_refused():
    with pytest.raises(InputError, match="refinement: found 'penet', expected one of none, da-"):
        CDSPNSettings(refinement="penet")
