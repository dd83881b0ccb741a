from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from depth_completion_ros.errors import InputError
from depth_completion_ros.networks import cspn_propagation
from depth_completion_ros.networks.cspn_backbone import (
    SparseToDense,
    SparseToDenseSettings,
    average_regions,
)
from depth_completion_ros.networks.cspn_plus import (
    Choice,
    CSPNPlus,
    CSPNPlusSettings,
    CSPNRefinement,
    Selection,
    assemble,
    budget_loss,
    choose,
    context_loss,
    expected_cost,
    keep_budgets,
    one_hot,
    straight_through,
)
from depth_completion_ros.networks.cspn_propagation import (
    KERNELS,
    affinity_of_maps,
    iterate,
    neighbours,
    normalise,
    propagate_chosen,
    propagate_weighted,
    received,
)
from depth_completion_ros.networks.export import Graph, example_arrays, export_onnx

HEIGHT, WIDTH = 5, 8
STEPS = (1, 2, 4)


def step_by_loops(h: Tensor, start: Tensor, raw: Tensor, kernels: Tensor) -> Tensor:
    """Follow the equation for single maps (H, W), raw (48, H, W) and a kernel per pixel."""
    height, width = h.shape
    result = torch.empty_like(h)
    for y in range(height):
        for x in range(width):
            half = int(kernels[y, x]) // 2
            fetched = [
                (raw[m, y, x].item(), h[y + dy, x + dx].item())
                for m, (dy, dx) in enumerate(neighbours(7))
                if max(abs(dy), abs(dx)) <= half and 0 <= y + dy < height and 0 <= x + dx < width
            ]
            size = sum(abs(share) for share, _ in fetched)
            own = 1 - sum(share for share, _ in fetched) / size
            neighbourhood = sum(share * depth for share, depth in fetched) / size
            result[y, x] = own * start[y, x] + neighbourhood
    return result


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


class Case:
    """Two small images, a tenth of whose pixels are measured."""

    start = random(2, 1, HEIGHT, WIDTH, seed=1) * 50
    raw = random(2, 48, HEIGHT, WIDTH, seed=2) - 0.4
    sparse = (random(2, 1, HEIGHT, WIDTH, seed=3) < 0.1) * random(2, 1, HEIGHT, WIDTH, seed=4) * 9
    guide = random(2, 1, HEIGHT, WIDTH, seed=5)
    selection = Selection(
        torch.softmax(3 * random(2, 3, HEIGHT, WIDTH, seed=6), 1),
        torch.softmax(3 * random(2, 3, 3, HEIGHT, WIDTH, seed=7), 2),
    )


def everywhere(kernel: int) -> Tensor:
    return torch.full((HEIGHT, WIDTH), kernel)


def test_the_neighbours_of_a_smaller_kernel_come_first():
    first = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
    assert neighbours(3) == first
    assert neighbours(5)[:11] == [*first, (-2, -2), (-2, -1), (-2, 0)]
    assert neighbours(7)[:24] == neighbours(5)
    assert len(set(neighbours(7))) == 48


def test_a_step_can_be_followed_by_hand():
    # All of the middle pixel's shares go to the right, a quarter of them negative below.
    raw = torch.zeros(1, 8, 3, 3)
    raw[0, 4, 1, 1], raw[0, 6, 1, 1] = 3, -1
    depth = torch.arange(9.0).view(1, 1, 3, 3)
    (after,) = iterate(depth + 10, normalise(raw), 1, None)
    expected = depth + 10
    expected[0, 0, 1, 1] = 0.5 * 14 + 0.75 * 15 - 0.25 * 17
    assert torch.equal(after, expected)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("replacement", ["none", "measurement", "h0", "guided"])
def test_plain_propagation_follows_its_equation(kernel, replacement):
    back = Case.start if replacement == "h0" else Case.sparse
    guide = Case.guide if replacement == "guided" else torch.ones_like(Case.guide)
    sparse = None if replacement == "none" else Case.sparse
    affinity = normalise(Case.raw[:, : kernel**2 - 1])
    given = {"h0": {"back": Case.start}, "guided": {"guide": Case.guide}}.get(replacement, {})
    found = list(iterate(Case.start, affinity, 3, sparse, **given))
    assert len(found) == 3
    for b in range(2):
        h = start = Case.start[b, 0]
        mask = (Case.sparse[b, 0] > 0) * guide[b, 0] * (replacement != "none")
        for step in range(3):
            h = step_by_loops(h, start, Case.raw[b], everywhere(kernel))
            h = (1 - mask) * h + mask * back[b, 0]
            torch.testing.assert_close(found[step][b, 0], h, atol=1e-4, rtol=1e-5)


def test_depth_stays_within_bounds():
    depth = random(1, 1, 9, 9) * 50
    *_, last = iterate(depth, normalise(random(1, 48, 9, 9)), 24, None)
    assert depth.min() <= last.min()
    assert last.max() <= depth.max()


def test_affinities_of_a_pixel_may_all_be_zero():
    depth = random(1, 1, HEIGHT, WIDTH)
    (last,) = iterate(depth, normalise(torch.zeros(1, 48, HEIGHT, WIDTH)), 1, None)
    assert torch.equal(last, depth)


@pytest.mark.parametrize("steps", [1, 12, 24])
@pytest.mark.parametrize("norm", ["8sum", "8sum_abs"])
def test_plain_cspn_is_the_published_one(golden, steps, norm):
    case = golden("cspn_classic")
    settings = CSPNPlusSettings(
        form="plain", kernel=3, steps=steps, affinity_at="source", replace_with="h0"
    )
    refinement = CSPNRefinement(8, settings)
    with torch.no_grad():
        # The published affinities are the features themselves.
        refinement.affinity_head.weight.copy_(torch.eye(8)[:, :, None, None])
        refinement.affinity_head.bias.zero_()
    raw = case["guidance"].abs() if norm == "8sum_abs" else case["guidance"]
    for name, sparse in (("", torch.zeros_like(case["sparse"])), ("_sparse", case["sparse"])):
        expected = case[f"{norm}/steps{steps}{name}"]
        found, selection = refinement(case["h0"], raw, sparse)
        assert selection is None
        torch.testing.assert_close(found[0, 0], expected, atol=1e-4, rtol=1e-5)


def test_affinities_at_the_source_are_brought_to_the_target():
    raw = Case.raw
    found = received(raw)
    places = neighbours(7)
    for m, (dy, dx) in enumerate(places):
        sender = raw[:, places.index((-dy, -dx))]
        for y in range(HEIGHT):
            for x in range(WIDTH):
                inside = 0 <= y + dy < HEIGHT and 0 <= x + dx < WIDTH
                expected = sender[:, y + dy, x + dx] if inside else torch.zeros(2)
                assert torch.equal(found[:, m, y, x], expected)


def test_the_context_aware_form_follows_its_equation():
    found = assemble(Case.start, Case.raw, Case.sparse, Case.selection, STEPS, Case.guide)
    for b in range(2):
        start, expected = Case.start[b, 0], torch.zeros(HEIGHT, WIDTH)
        mask = (Case.sparse[b, 0] > 0) * Case.guide[b, 0]
        for k, kernel in enumerate(KERNELS):
            h, mixed = start, torch.zeros(HEIGHT, WIDTH)
            for step in range(1, 5):
                h = step_by_loops(h, start, Case.raw[b], everywhere(kernel))
                h = (1 - mask) * h + mask * Case.sparse[b, 0]
                if step in STEPS:
                    mixed += Case.selection.iterations[b, k, STEPS.index(step)] * h
            expected += Case.selection.kernels[b, k] * mixed
        torch.testing.assert_close(found[b, 0], expected, atol=1e-4, rtol=1e-5)


def test_a_pixel_takes_what_it_wants_most():
    kernels = torch.tensor([0.2, 0.5, 0.3]).view(1, 3, 1, 1)
    iterations = torch.tensor([[0.9, 0.05, 0.05], [0.1, 0.3, 0.6], [0.1, 0.8, 0.1]])
    choice, confidence = choose(Selection(kernels, iterations.view(1, 3, 3, 1, 1)))
    assert (choice.kernel.item(), choice.iteration.item()) == (1, 2)
    assert confidence.item() == pytest.approx(0.3)


def chosen() -> tuple[Choice, Tensor, Tensor]:
    """Give a choice that uses everything, as indices, kernels and steps."""
    choice = choose(Case.selection)[0]
    kernels = torch.tensor(KERNELS, dtype=torch.uint8)[choice.kernel]
    steps = torch.tensor(STEPS, dtype=torch.uint8)[choice.iteration]
    pairs = {*zip(kernels.flatten().tolist(), steps.flatten().tolist(), strict=True)}
    assert len(pairs) == 9
    return choice, kernels, steps


def resource_by_loops() -> Tensor:
    _, kernels, steps = chosen()
    maps = []
    for b in range(2):
        h, measured = Case.start[b, 0], Case.sparse[b, 0] > 0
        for step in range(1, STEPS[-1] + 1):
            new = step_by_loops(h, Case.start[b, 0], Case.raw[b], kernels[b])
            new = torch.where(measured, Case.sparse[b, 0], new)
            # Who stopped keeps a value that others can see.
            h = torch.where(steps[b] >= step, new, h)
        maps.append(h)
    return torch.stack(maps)[:, None]


@pytest.mark.parametrize("share", [0.0, 0.2, 2.0])
@pytest.mark.parametrize("product", ["sparse", "indexed"])
def test_the_resource_aware_form_follows_its_equation(monkeypatch, share, product):
    # Everything swept, some of it, everything gathered.
    monkeypatch.setattr(cspn_propagation, "SWEEP_SHARE", share)
    if product == "indexed":
        monkeypatch.setattr(cspn_propagation, "_has_sparse_product", lambda _: False)
    _, kernels, steps = chosen()
    raw = Case.raw.clone()
    found = propagate_chosen(Case.start, Case.sparse, kernels, steps, affinity_of_maps(raw))
    torch.testing.assert_close(found, resource_by_loops(), atol=1e-4, rtol=1e-5)
    assert torch.equal(raw, Case.raw)


def test_whole_maps_give_what_single_pixels_give():
    choice, _, _ = chosen()
    weights = one_hot(choice, 3, torch.float32)
    found = propagate_weighted(Case.start, Case.raw, Case.sparse, *weights, STEPS)
    torch.testing.assert_close(found, resource_by_loops(), atol=1e-4, rtol=1e-5)


def test_pixels_that_stop_are_skipped(monkeypatch):
    monkeypatch.setattr(cspn_propagation, "SWEEP_SHARE", 2.0)
    worked = []

    class Counting(cspn_propagation._Gather):
        def fetch(self, state):
            result = super().fetch(state)
            worked.append(len(result) * self.shares.shape[1])
            return result

    monkeypatch.setattr(cspn_propagation, "_Gather", Counting)
    asked = []

    def affinity_of(image: int, count: int, pixels: Tensor | None) -> Tensor:
        assert pixels is not None
        asked.append(len(pixels) * count)
        return affinity_of_maps(Case.raw)(image, count, pixels)

    _, kernels, steps = chosen()
    propagate_chosen(Case.start, Case.sparse, kernels, steps, affinity_of)
    active = Case.sparse[:, 0] <= 0
    taps = (kernels.long().square() - 1)[active]
    assert sum(asked) == taps.sum()
    assert sum(worked) == (taps * steps[active]).sum()


def test_everything_measured_stays_measured():
    sparse = torch.ones_like(Case.sparse)
    _, kernels, steps = chosen()
    found = propagate_chosen(Case.start, sparse, kernels, steps, affinity_of_maps(Case.raw))
    assert torch.equal(found, sparse)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 2)])
def test_maps_smaller_than_the_kernel_work(size):
    raw, start = received(random(1, 48, *size)), random(1, 1, *size)
    kernels = torch.full((1, *size), 7, dtype=torch.uint8)
    steps = torch.full((1, *size), 3, dtype=torch.uint8)
    nothing = torch.zeros_like(start)
    found = propagate_chosen(start, nothing, kernels, steps, affinity_of_maps(raw))
    *_, expected = iterate(start, normalise(raw), 3, nothing)
    torch.testing.assert_close(found, expected)


def test_the_choice_is_exact_and_has_the_gradient_of_the_selection():
    leaves = [x.clone().requires_grad_() for x in Case.selection]
    selection = Selection(*leaves)
    choice, _ = choose(selection)
    kernels, iterations = straight_through(selection, choice)
    expected = one_hot(choice, 3, torch.float32)
    assert torch.equal(kernels.detach(), expected[0])
    assert torch.equal(iterations.detach(), expected[1])
    weights = random(2, 3, HEIGHT, WIDTH, seed=8), random(2, 3, HEIGHT, WIDTH, seed=9)
    ((kernels * weights[0]).sum() + (iterations * weights[1]).sum()).backward()
    assert torch.equal(leaves[0].grad, weights[0])
    for k in range(3):
        mine = (choice.kernel == k)[:, None]
        assert torch.equal(leaves[1].grad[:, k], weights[1] * mine)


def test_training_and_inference_of_the_resource_aware_form_agree():
    torch.manual_seed(2)
    refinement = CSPNRefinement(6, CSPNPlusSettings(form="resource"))
    features = random(2, 6, 9, 13) * 4 - 2
    start, sparse = random(2, 1, 9, 13) * 50, (random(2, 1, 9, 13, seed=1) < 0.1) * 7.0
    trained, _ = refinement(start, features, sparse)
    trained.sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in refinement.parameters())
    refinement.eval()
    whole, _ = refinement(start, features, sparse)
    with torch.no_grad():
        skipping, _ = refinement(start, features, sparse)
        moved = CSPNRefinement(6, CSPNPlusSettings(form="resource", affinity_at="source")).eval()
        moved.load_state_dict(refinement.state_dict())
        from_source, _ = moved(start, features, sparse)
    from_source_whole, _ = moved(start, features, sparse)
    torch.testing.assert_close(trained, skipping, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(whole, skipping, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(from_source_whole, from_source, atol=1e-4, rtol=1e-5)
    assert (from_source - skipping).abs().max() > 0.1


def test_selections_are_shares():
    selection = CSPNRefinement(4, CSPNPlusSettings()).select(random(2, 4, 3, 5))
    assert selection.kernels.shape == (2, 3, 3, 5)
    assert selection.iterations.shape == (2, 3, 4, 3, 5)
    torch.testing.assert_close(selection.kernels.sum(1), torch.ones(2, 3, 5))
    torch.testing.assert_close(selection.iterations.sum(2), torch.ones(2, 3, 3, 5))


def test_the_least_sure_pixels_over_a_budget_give_way():
    # Kernels 7, 7, 5, 3 cost 1, 1, 25/49 and 9/49; half a 7x7 on average leaves room for one 7.
    choice = Choice(torch.tensor([[[2, 2, 1, 0]]]), torch.tensor([[[3, 1, 0, 3]]]))
    confidence = torch.tensor([[[0.5, 0.4, 0.9, 0.1]]])
    kept = keep_budgets(choice, confidence, (3, 6, 9, 12), 0.5, 1.0)
    assert kept.kernel.tolist() == [[[2, 0, 1, 0]]]
    assert kept.iteration.tolist() == [[[3, 1, 0, 3]]]
    # Steps 12, 6, 3, 12: whoever gives way takes a configuration within both budgets.
    kept = keep_budgets(choice, confidence, (3, 6, 9, 12), 0.5, 0.6)
    assert kept.kernel.tolist() == [[[2, 0, 1, 0]]]
    assert kept.iteration.tolist() == [[[3, 1, 0, 1]]]
    kept = keep_budgets(choice, confidence, (3, 6, 9, 12), 0.0, 0.0)
    assert kept.kernel.tolist() == [[[0, 0, 0, 0]]]
    assert kept.iteration.tolist() == [[[0, 0, 0, 0]]]


@pytest.mark.parametrize("budgets", [(1.0, 1.0), (0.5, 0.5), (0.35, 0.35), (0.6, 0.3), (0.2, 1.0)])
def test_every_image_keeps_its_budgets(budgets):
    steps = (3, 6, 9, 12)
    size = (3, 40, 50)
    generator = torch.Generator().manual_seed(3)
    kernel = torch.randint(0, 3, size, generator=generator)
    iteration = torch.randint(0, 4, size, generator=generator)
    kernel[0], iteration[0] = 0, 0  # an image that is within all budgets
    kept = keep_budgets(Choice(kernel, iteration), random(*size), steps, *budgets)
    assert (kept.kernel <= kernel).all()
    assert (kept.iteration <= iteration).all()
    table = torch.tensor([9 / 49, 25 / 49, 1.0], dtype=torch.float64)
    kernel_cost = table[kept.kernel].mean((1, 2))
    iteration_cost = torch.tensor(steps)[kept.iteration].double().mean((1, 2)) / 12
    assert (kernel_cost <= budgets[0] + 1e-9).all()
    assert (iteration_cost <= budgets[1] + 1e-9).all()
    if budgets == (0.2, 1.0):
        # Not more than needed: one pixel less is worth 1 / 2000.
        assert (table[kernel].mean((1, 2))[1:] > 0.5).all()
        assert (kernel_cost[1:] > 0.1995).all()
    if budgets == (1.0, 1.0):
        assert torch.equal(kept.kernel, kernel)
        assert torch.equal(kept.iteration, iteration)
    for index in (kept.kernel, kept.iteration):
        assert (index[0] == 0).all()


def test_costs_follow_their_equations():
    kernels, iterations = Case.selection
    cost = expected_cost(Case.selection, STEPS)
    pixels = [(b, y, x) for b in range(2) for y in range(HEIGHT) for x in range(WIDTH)]
    kernel = iteration = 0.0
    for b, y, x in pixels:
        for k, side in enumerate(KERNELS):
            alpha = kernels[b, k, y, x].item()
            kernel += alpha * side**2 / 49
            for t, step in enumerate(STEPS):
                iteration += alpha * iterations[b, k, t, y, x].item() * step / 12
    assert cost.kernel.item() == pytest.approx(kernel / len(pixels))
    assert cost.iteration.item() == pytest.approx(iteration / len(pixels))


def test_plain_cspn_costs_one():
    certain = Selection(
        torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1),
        torch.tensor([0.0, 1.0]).expand(3, 2).reshape(1, 3, 2, 1, 1),
    )
    assert expected_cost(certain, (3, 12)) == (1.0, 1.0)


def test_losses_follow_their_equations():
    cost = expected_cost(Case.selection, STEPS)
    truth = torch.tensor([[[[0.0, 2.0, 4.0]]]])
    depth = torch.tensor([[[[9.0, 5.0, 5.0]]]])
    assert context_loss(depth, truth).item() == pytest.approx((9 + 1) / 2)
    expected = 5 + 0.1 * cost.kernel.item() * cost.iteration.item()
    assert context_loss(depth, truth, cost).item() == pytest.approx(expected)
    assert context_loss(depth, torch.zeros_like(truth)).item() == 0
    weights = {"kernel_weight": 2.0, "iteration_weight": 3.0}
    over = budget_loss(cost, cost.kernel.item() - 0.1, cost.iteration.item() - 0.2, **weights)
    assert over.item() == pytest.approx(2 * 0.1 + 3 * 0.2, rel=1e-4)
    assert budget_loss(cost, 1.0, 1.0).item() == 0


def test_gradients_are_those_of_the_equations():
    def run(start: Tensor, raw: Tensor, kernels: Tensor, iterations: Tensor, guide: Tensor):
        selection = Selection(kernels, iterations)
        sparse = Case.sparse[:1, :, :2, :3].double()
        mixed = assemble(start, raw, sparse, selection, (1, 2), guide)
        return mixed, propagate_weighted(start, raw, sparse, kernels, iterations[:, 1], (1, 2))

    shapes = ((1, 1, 2, 3), (1, 48, 2, 3), (1, 3, 2, 3), (1, 3, 2, 2, 3), (1, 1, 2, 3))
    inputs = [(random(*s, seed=i).double() + 0.1).requires_grad_() for i, s in enumerate(shapes)]
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


@pytest.mark.parametrize(("pyramid", "count"), [(False, 26_108_193), (True, 31_090_465)])
def test_the_backbone_has_its_published_size(pyramid, count):
    with torch.device("meta"):
        network = SparseToDense(SparseToDenseSettings(pyramid=pyramid))
    assert sum(p.numel() for p in network.parameters()) == count
    assert network.feature_channels == (128, 192, 384)


@pytest.mark.parametrize("side", [1, 2, 4, 8])
def test_regions_are_those_of_adaptive_pooling(side):
    x = random(2, 3, 5, 19)
    expected = torch.nn.functional.adaptive_avg_pool2d(x, side)
    torch.testing.assert_close(average_regions(x, side), expected)


@pytest.mark.parametrize("form", ["plain", "context", "resource"])
def test_the_exported_graph_gives_the_same(tmp_path, form):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    torch.manual_seed(0)
    settings = CSPNPlusSettings(form=form, width=0.03125, pyramid=True, kernel_budget=0.5)
    network = CSPNPlus(settings).eval()
    path = tmp_path / "cspn.onnx"
    export_onnx(network, path, size=(32, 48))
    arrays = example_arrays(Graph(network), 32, 48)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    found = session.run(["depth"], {name: array.numpy() for name, array in arrays.items()})[0]
    with torch.no_grad():
        image = arrays["image"].permute(0, 3, 1, 2).float()
        expected = network(image, arrays["sparse"]).depth
    torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-3, rtol=1e-4)


def test_any_backbone_can_be_refined(street):
    from depth_completion_ros.networks.enet import ENet, ENetSettings

    image, sparse, _ = street(32, 64)
    backbone = ENet(ENetSettings(width=0.03125))
    network = CSPNPlus(CSPNPlusSettings(form="resource"), backbone).eval()
    with torch.no_grad():
        output = network(image, sparse)
    assert torch.equal(output.depth[sparse > 0], sparse[sparse > 0])
    assert len(output.stages) == 3


def test_budgets_change_the_depth_and_keep_measurements(street):
    image, sparse, _ = street(32, 64)
    torch.manual_seed(0)
    network = CSPNPlus(CSPNPlusSettings(form="resource", width=0.03125)).eval()
    with torch.no_grad():
        for name in ("kernel_head", "iteration_head"):
            nn.init.normal_(network.refinement.get_submodule(name).bias)
        generous = network(image, sparse).depth
        small = CSPNPlusSettings(
            form="resource", width=0.03125, kernel_budget=0.2, iteration_budget=0.3
        )
        network.refinement.settings = small
        frugal = network(image, sparse).depth
    assert not torch.equal(generous, frugal)
    assert torch.equal(frugal[sparse > 0], sparse[sparse > 0])


def test_the_selection_reaches_the_loss(street):
    image, sparse, truth = street(32, 48)
    network = CSPNPlus(CSPNPlusSettings(width=0.03125))
    output, selection = network.complete_and_select(image, sparse)
    cost = expected_cost(selection, network.refinement.steps)
    assert 9 / 49 < cost.kernel < 1
    assert 3 / 12 < cost.iteration < 1
    loss = context_loss(output.depth, truth, cost) + budget_loss(cost, 0.1, 0.1)
    assert math.isfinite(loss.item())
    loss.backward()
    assert network.refinement.kernel_head.weight.grad.abs().max() > 0


def test_settings_without_a_form_are_refused():
    with pytest.raises(InputError, match="kernel: found 4, expected 3, 5 or 7"):
        CSPNPlusSettings(kernel=4)
    with pytest.raises(InputError, match=r"iterations: found \[6, 3\], expected increasing whole"):
        CSPNPlusSettings(iterations=(6, 3))
    with pytest.raises(InputError, match=r"iterations: found \[1.5\]"):
        CSPNPlusSettings(iterations=(1.5,))
