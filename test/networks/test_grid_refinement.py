from __future__ import annotations

import pytest
import torch

from depth_completion_ros.networks import sampling
from depth_completion_ros.networks.export import example_arrays, export_onnx
from depth_completion_ros.networks.grid_refinement import GridRefinement, WholeGraph
from depth_completion_ros.networks.registry import build_network

RANDOM = torch.Generator().manual_seed(2)


def random_case(height: int, width: int, kernel: int) -> list[torch.Tensor]:
    taps = kernel * kernel
    depth = torch.rand(2, 1, height, width, generator=RANDOM) * 80
    weight = torch.rand(2, taps, height, width, generator=RANDOM)
    offset = torch.randn(2, 2 * taps, height, width, generator=RANDOM) * 4
    return [depth, weight, offset]


@pytest.mark.parametrize(("kernel", "window", "residual"), [(3, 15, True), (5, 7, False)])
def test_sampling_a_grid_equals_sampling_by_index(kernel, window, residual):
    arguments = random_case(17, 29, kernel)
    options = {"kernel": kernel, "window": window, "residual": residual}
    refined = GridRefinement(**options)(*arguments)
    torch.testing.assert_close(refined, sampling.refine(*arguments, **options), atol=5e-4, rtol=0)


def test_a_map_of_one_row_is_refined():
    arguments = random_case(1, 9, 3)
    # A grid has no step in y here: every sample lies on the row, so that only these agree.
    arguments[2][:, 1::2] = -torch.tensor([-0.5, 0.5, 1.5]).repeat(3).view(1, 9, 1, 1)
    expected = sampling.refine(*arguments)
    torch.testing.assert_close(GridRefinement()(*arguments), expected, atol=1e-4, rtol=0)


def test_the_whole_graph_of_redc_lite_is_the_network_at_any_size(tmp_path):
    import onnxruntime

    network = build_network("redc_lite").eval()
    torch.nn.init.normal_(network.head.weight, std=0.3, generator=RANDOM)
    path = tmp_path / "redc_lite.onnx"
    export_onnx(network, path, with_pass=True)
    arrays = example_arrays(WholeGraph(network), 48, 112)
    feed = {name: tensor.numpy() for name, tensor in arrays.items()}
    depth, sigma = map(torch.from_numpy, onnxruntime.InferenceSession(path).run(None, feed))
    image = arrays["image"].permute(0, 3, 1, 2).float()
    with torch.no_grad():
        expected = network(image, arrays["sparse"], arrays["rays"], arrays["prefilled"])
    # The pass does something: without it the two would agree.
    assert (expected.depth - expected.stages[1]).abs().max() > 0.1
    torch.testing.assert_close(depth, expected.depth, atol=2e-3, rtol=1e-4)
    torch.testing.assert_close(sigma, expected.sigma, atol=2e-3, rtol=1e-4)
