from __future__ import annotations

import pytest

from depth_completion_ros.errors import InputError
from depth_completion_ros.networks.registry import NETWORKS, build_network
from depth_completion_ros.share import find_share_file
from depth_completion_ros.training.recipe import make_recipe, read_recipe, recipe_text

SMALLEST = {"data": {"sources": [{"path": "a"}]}, "stages": [{"steps": 1}]}
SHIPPED = sorted(path.stem for path in find_share_file("config/train").glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_describes_a_network_and_its_stages(name):
    import torch

    from depth_completion_ros.training.loop import check_part

    recipe = read_recipe(name)
    with torch.device("meta"):
        network = build_network(recipe.network.name, **recipe.network.settings)
    for stage in recipe.stages:
        check_part(network, stage.train)


def test_every_network_has_a_recipe_of_its_name():
    assert set(NETWORKS) <= set(SHIPPED)


def test_the_two_forms_of_lrru_differ_where_paper_and_code_do():
    code, paper = read_recipe("lrru"), read_recipe("lrru_paper")
    assert (code.optimiser.kind, code.optimiser.weight_decay, code.run.batch) == (
        "adamw",
        0.05,
        16,
    )
    assert (paper.optimiser.kind, paper.optimiser.weight_decay) == ("adam", 1e-6)
    assert paper.run.batch == 8
    assert code.loss == paper.loss
    assert code.schedule == paper.schedule


def test_a_recipe_survives_its_text():
    import json

    recipe = read_recipe("penet")
    again = make_recipe(json.loads(recipe_text(recipe)))
    assert again == recipe
    assert again.sha256() == recipe.sha256()


def test_another_seed_is_another_recipe():
    one = make_recipe(SMALLEST)
    two = make_recipe({**SMALLEST, "run": {"seed": 2}})
    assert one.sha256() != two.sha256()


def test_yaml_floats_without_a_dot_are_numbers(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("data: {sources: [{path: a}]}\nstages: [{steps: 1}]\noptimiser: {rate: 1e-4}")
    assert read_recipe(path).optimiser.rate == 1e-4


def test_changes_reach_lists_and_new_groups(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("data: {sources: [{path: a}]}\nstages: [{steps: 1}]")
    recipe = read_recipe(path, ["stages.0.steps=7", "run.seed=3", "augmentation.crop=[32, 48]"])
    assert recipe.stages[0].steps == 7
    assert recipe.run.seed == 3
    assert recipe.augmentation.crop == (32.0, 48.0)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({}, "data.sources: found none"),
        ({"data": {"sources": [{"path": "a"}]}}, "stages: found none"),
        ({**SMALLEST, "losses": {}}, "losses: unknown setting; expected one of network, data"),
        ({**SMALLEST, "stages": [{"steps": 1, "epochs": 2}]}, r"stages\[0\].found epochs 2"),
        ({**SMALLEST, "loss": {"l1": "much"}}, "loss.l1: found 'much'"),
        ({**SMALLEST, "loss": 1}, "loss: found 1, expected settings with names"),
        ({**SMALLEST, "data": {"sources": {"path": "a"}}}, "data.sources: found .* expected a li"),
        ({**SMALLEST, "augmentation": {"crop": [8, 64]}}, "expected whole numbers from 16 on"),
        ({**SMALLEST, "augmentation": {"zoom": [2, 1]}}, "expected minimum <= maximum"),
        ({**SMALLEST, "distillation": {"depth": 0.6, "gradient": 0.6}}, "expected at most 1"),
        ({"data": {"sources": [{"path": "a", "include": [1]}]}}, "expected a list of texts"),
    ],
)
def test_what_is_wrong_is_named(tree, message):
    with pytest.raises(InputError, match=message):
        make_recipe(tree)


def test_a_file_that_is_no_yaml_is_refused_in_one_line(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("a: [1\nb: {")
    with pytest.raises(InputError, match=r"r\.yaml: no YAML") as error:
        read_recipe(path)
    assert "\n" not in str(error.value)


def test_an_unknown_name_says_where_it_was_looked_for():
    with pytest.raises(InputError, match=r"config/train/redd\.yaml: not found"):
        read_recipe("redd")
