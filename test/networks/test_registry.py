"""What every network must do, whatever its kind."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from depth_completion_ros.errors import InputError
from depth_completion_ros.networks.checkpoint import open_network, save_network
from depth_completion_ros.networks.network import DepthNetwork
from depth_completion_ros.networks.registry import NETWORKS, build_network, name_of

NARROW = 0.03125
SMALL = {
    "cdspn": ("cdspn", {}),
    "cdspn with coordinate attention": ("cdspn", {"attention": "coordinate"}),
    "cspn": ("cspn++", {"width": NARROW, "form": "plain"}),
    "cspn++": ("cspn++", {"width": NARROW}),
    "cspn++ with pyramid": ("cspn++", {"width": NARROW, "pyramid": True}),
    "cspn++ resource aware": ("cspn++", {"width": NARROW, "form": "resource"}),
    "cspn++ on a budget": (
        "cspn++",
        {"width": NARROW, "form": "resource", "kernel_budget": 0.35, "iteration_budget": 0.35},
    ),
    "enet": ("enet", {"width": NARROW}),
    "enet with real rays": ("enet", {"width": NARROW, "geometry": "camera"}),
    "lrru": ("lrru", {"size": "mini"}),
    "lrru without image": ("lrru", {"size": "mini", "modality": "depth"}),
    "msg_chn": ("msg_chn", {"channels": 4}),
    "penet": ("penet", {"width": NARROW}),
    "penet with dilation 1": ("penet", {"width": NARROW, "dilation": 1}),
    "penet with dilation 4": ("penet", {"width": NARROW, "dilation": 4}),
    "redc": ("redc", {"width": NARROW}),
    "redc_lite": ("redc_lite", {"widths": (4, 8, 8, 8)}),
    "redc_lite without image": ("redc_lite", {"widths": (4, 8, 8, 8), "modality": "depth"}),
    "redc on the filled map": ("redc", {"width": NARROW, "refined_map": "nearest"}),
    "steering": ("steering", {"width": NARROW, "depth_range": "kitti"}),
    "steering for few points": (
        "steering",
        {"width": NARROW, "depth_range": "kitti", "undetermined": "flattest"},
    ),
}


@pytest.fixture(params=SMALL)
def network(request) -> DepthNetwork:
    name, settings = SMALL[request.param]
    torch.manual_seed(4)
    network = build_network(name, **settings)
    for buffer_name, buffer in network.named_buffers():
        if buffer_name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    if name == "redc_lite":
        torch.nn.init.normal_(network.head.weight, std=0.1)  # it starts as a mere fill
    return network.eval()


def test_every_network_is_tried_here():
    assert {name for name, _ in SMALL.values()} == set(NETWORKS)


def test_odd_sizes_and_batches_work(network, street):
    image, sparse, _ = street(37, 53, batch=2)
    rays = torch.rand(2, 2, 37, 53) - 0.5
    with torch.no_grad():
        both = network(image, sparse, rays)
        single = network(image[1:], sparse[1:], rays[1:])
    for maps in ((both.depth, single.depth), *zip(both.stages, single.stages, strict=True)):
        assert maps[0].shape == (2, 1, 37, 53)
        assert torch.isfinite(maps[0]).all()
        torch.testing.assert_close(maps[0][1:], maps[1], atol=1e-4, rtol=1e-4)
    assert both.disagreement().shape == (2, 1, 37, 53)
    assert both.disagreement().max() > 0


def test_nothing_measured_gives_finite_depth(network):
    black, nothing = torch.zeros(1, 3, 33, 47), torch.zeros(1, 1, 33, 47)
    with torch.no_grad():
        output = network(black, nothing, torch.zeros(1, 2, 33, 47))
    assert torch.isfinite(output.depth).all()
    assert torch.isfinite(output.disagreement()).all()


def test_every_parameter_learns(network, street):
    image, sparse, truth = street(64, 96, batch=2)
    network.train()
    output = network(image, sparse, torch.rand(2, 2, 64, 96))
    loss = (output.depth - truth).abs().mean()
    for stage in output.stages:
        loss = loss + (stage - truth).abs().mean()
    loss.backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_a_saved_network_comes_back_the_same(network, street, tmp_path):
    image, sparse, _ = street(32, 64)
    rays = torch.rand(1, 2, 32, 64)
    path = tmp_path / "network.safetensors"
    save_network(network, path, {"recipe": "none"})
    again, metadata = open_network(path)
    assert again.settings == network.settings
    assert metadata["network"] == name_of(network)
    assert metadata["recipe"] == "none"
    with torch.no_grad():
        assert torch.equal(again(image, sparse, rays).depth, network(image, sparse, rays).depth)
    assert [p.name for p in tmp_path.iterdir()] == ["network.safetensors"]


def test_inputs_it_does_not_name_change_nothing(network, street):
    image, sparse, truth = street(32, 48)
    arguments = {"image": image, "sparse": sparse, "rays": torch.rand(1, 2, 32, 48)}
    if "prefilled" in network.inputs:
        arguments["prefilled"] = torch.from_numpy(network.prefill(sparse[0, 0].numpy()))[
            None, None
        ]
    changed = {"image": 255 - image, "sparse": sparse * 0.9, "rays": -3 * arguments["rays"]}
    changed["prefilled"] = truth / 2
    with torch.no_grad():
        depth = network(**arguments).depth
        for name, value in changed.items():
            other = network(**{**arguments, name: value}).depth
            assert torch.equal(other, depth) == (name not in network.inputs)


def test_shapes_that_do_not_fit_are_refused(network):
    image, sparse = torch.zeros(1, 3, 32, 48), torch.zeros(1, 1, 32, 32)
    with pytest.raises(InputError, match=r"image: found shape .*48\), expected \(1, 3, 32, 32\)"):
        network(image, sparse)


def test_an_unknown_name_or_setting_is_refused():
    with pytest.raises(InputError, match=r"network: found 'redcc', expected one of .*redc"):
        build_network("redcc")
    with pytest.raises(InputError, match=r"redc\.depth: unknown setting; expected one of width"):
        build_network("redc", depth=3)


def test_names_are_listed_without_torch():
    code = (
        "import sys; from depth_completion_ros.networks.registry import NETWORKS;"
        "sys.exit('torch' in sys.modules or 'redc' not in NETWORKS)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
