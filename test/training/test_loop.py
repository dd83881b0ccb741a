from __future__ import annotations

import copy
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from depth_completion_ros.datasets.depth_png import write_depth_png
from depth_completion_ros.errors import InputError
from depth_completion_ros.networks.checkpoint import open_network
from depth_completion_ros.training.averaging import AveragedWeights
from depth_completion_ros.training.loop import Trainer, trained_part
from depth_completion_ros.training.recipe import make_recipe

TINY = {"name": "redc_lite", "settings": {"widths": [4, 4, 4, 4], "blocks": [0, 0, 0]}}
SMALL = {"name": "msg_chn", "settings": {"channels": 4}}
ENET = {"name": "penet", "settings": {"width": 0.03125, "geometry": "camera"}}


def recipe_for(folder: Path, **groups):
    tree = {
        "network": TINY,
        "data": {"sources": [{"path": str(folder)}], "cache": 10},
        "augmentation": {"crop": [48, 64], "flip": 0.5},
        "stages": [{"steps": 3}],
        "run": {"batch": 2, "device": "cpu"},
    }
    return make_recipe({**tree, **groups})


def trained(folder: Path, out: Path, **groups) -> tuple[Trainer, list[float]]:
    trainer = Trainer(recipe_for(folder, **groups), out)
    list(trainer.prepare())
    return trainer, [progress.loss for progress in trainer.run()]


@pytest.fixture
def wrong_folder(folder: Path) -> Path:
    """All truth is a quarter farther than what is measured: something to learn quickly."""
    for path in folder.glob("*_gt.png"):
        depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) * 1.25
        cv2.imwrite(str(path), depth.astype(np.uint16))
    return folder


def test_training_learns(wrong_folder, tmp_path):
    trainer, losses = trained(
        wrong_folder,
        tmp_path / "out",
        data={
            "sources": [{"path": str(wrong_folder), "truth": "ground_truth", "exclude": ["l*"]}]
        },
        stages=[{"steps": 30}],
        loss={"l1": 0, "l2": 0, "relative": 1, "likelihood": 0.01},
        optimiser={"rate": 1e-2},
        schedule={"kind": "cosine", "warm_up": 0.1},
    )
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    network, metadata = open_network(tmp_path / "out" / "redc_lite.safetensors")
    for name, tensor in trainer.network.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name
    assert json.loads(metadata["training"])["steps"] == 30
    assert metadata["recipe_sha256"] == trainer.recipe.sha256()
    assert make_recipe(json.loads(metadata["recipe"])) == trainer.recipe


def test_the_same_seed_gives_the_same_run(folder, tmp_path):
    (one, losses1), (two, losses2) = (trained(folder, tmp_path / name) for name in "ab")
    assert losses1 == losses2
    for a, b in zip(one.network.parameters(), two.network.parameters(), strict=True):
        assert torch.equal(a, b)
    _, other = trained(folder, tmp_path / "c", run={"batch": 2, "device": "cpu", "seed": 2})
    assert other != losses1


def test_workers_change_nothing(folder, tmp_path):
    run = {"batch": 2, "device": "cpu"}
    _, alone = trained(folder, tmp_path / "a", run=run)
    _, helped = trained(folder, tmp_path / "b", run={**run, "workers": 2})
    assert helped == alone


def test_a_run_that_was_left_goes_on_to_the_same_weights(folder, tmp_path):
    stages = [{"steps": 2}, {"steps": 3, "rate": 1e-4}]
    groups = {"stages": stages, "run": {"batch": 2, "device": "cpu", "checkpoint_seconds": 0.0}}
    whole, losses = trained(folder, tmp_path / "whole", **groups)
    for left_after in (1, 2, 4):
        out = tmp_path / f"left{left_after}"
        first = Trainer(recipe_for(folder, **groups), out)
        steps = first.run()
        before = [next(steps).loss for _ in range(left_after)]
        steps.close()
        second = Trainer(recipe_for(folder, **groups), out, resume=True)
        assert second.step == left_after
        assert before + [progress.loss for progress in second.run()] == losses
        for a, b in zip(
            whole.network.state_dict().values(), second.network.state_dict().values(), strict=True
        ):
            assert torch.equal(a, b)
        rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        assert len({row["step"] for row in rows}) == len(rows)


def test_the_best_of_the_selection_is_kept(folder, tmp_path):
    # A rate that ruins the network: the first score stays the best.
    trainer = Trainer(
        recipe_for(
            folder,
            data={"sources": [{"path": str(folder), "include": ["a_*"]}]},
            selection={"every": 1, "sources": [{"path": str(folder), "include": ["b_*", "l*"]}]},
            optimiser={"rate": 0.5},
            stages=[{"steps": 4}],
        ),
        tmp_path / "out",
    )
    scores = [(p.score.value, p.is_best, p.step) for p in trainer.run()]
    best = min(scores)
    assert best[1]
    _, metadata = open_network(trainer.model_path)
    assert json.loads(metadata["training"])["steps"] == best[2]
    found = json.loads(metadata["training"])["selection"]["frames"]
    assert found["frames"] == 2


def test_frames_that_are_trained_on_cannot_select(folder, tmp_path):
    recipe = recipe_for(folder, selection={"sources": [{"path": str(folder), "include": ["a_1"]}]})
    with pytest.raises(InputError, match="1 frames are trained on as well, a_1"):
        Trainer(recipe, tmp_path / "out")


def test_stages_train_their_part_alone(folder, tmp_path):
    recipe = recipe_for(
        folder,
        network=ENET,
        stages=[
            {"train": "backbone", "steps": 1, "loss": {"phases": [{"stages": [0.2, 0.2]}]}},
            {"train": "refinement", "steps": 1},
        ],
        run={"batch": 1, "device": "cpu"},
    )
    trainer = Trainer(recipe, tmp_path / "out")
    steps = trainer.run()
    states = [copy.deepcopy(trainer.network.state_dict())]
    for _ in steps:
        states.append(copy.deepcopy(trainer.network.state_dict()))

    def changed(a: dict, b: dict) -> set[bool]:
        return {name.startswith("backbone.") for name in a if not torch.equal(a[name], b[name])}

    assert changed(states[0], states[1]) == {True}
    assert changed(states[1], states[2]) == {False}


def test_the_slow_group_is_the_backbone(folder, tmp_path):
    trainer = Trainer(
        recipe_for(folder, network=ENET, stages=[{"steps": 1, "backbone_rate": 0.0}]),
        tmp_path / "out",
    )
    before = {n: p.detach().clone() for n, p in trainer.network.named_parameters()}
    list(trainer.run())
    moved = {
        name.startswith("backbone.")
        for name, p in trainer.network.named_parameters()
        if not torch.equal(p, before[name])
    }
    assert moved == {False}


def test_a_part_that_is_not_trained_has_no_gradient():
    from depth_completion_ros.networks.registry import build_network

    network = build_network("penet", **ENET["settings"])
    module, parameters = trained_part(network, "backbone")
    assert module is network.backbone
    assert {id(p) for p in parameters} == {id(p) for p in network.backbone.parameters()}
    assert all(p.requires_grad for p in trained_part(network, "all")[1])


def test_a_loss_that_is_no_number_ends_the_run(folder, tmp_path):
    with pytest.raises(InputError, match=r"loss: found (inf|nan) after step"):
        trained(
            folder,
            tmp_path / "out",
            network=SMALL,
            optimiser={"rate": 1.0},
            loss={"l2": 1000.0},
            stages=[{"steps": 40}],
        )


def test_images_of_two_sizes_need_a_crop(folder, tmp_path):
    image = np.zeros((32, 48, 3), np.uint8)
    cv2.imwrite(str(folder / "a_1_image.png"), image)
    depth = np.full((32, 48), 2560, np.uint16)
    for kind in ("sparse", "gt"):
        cv2.imwrite(str(folder / f"a_1_{kind}.png"), depth)
    calibration = json.loads((folder / "calib.json").read_text())
    (folder / "a_1_calib.json").write_text(json.dumps({**calibration, "image_size": [48, 32]}))
    with pytest.raises(InputError, match="found images of 48x32 and 96x64, expected one size"):
        trained(folder, tmp_path / "out", augmentation={}, run={"batch": 4, "device": "cpu"})


def test_training_starts_from_a_model_file(folder, tmp_path):
    trained(folder, tmp_path / "first")
    start = {"name": "redc_lite", "start": str(tmp_path / "first" / "redc_lite.safetensors")}
    trainer = Trainer(recipe_for(folder, network=start), tmp_path / "second")
    first, _ = open_network(Path(start["start"]))
    for name, tensor in first.state_dict().items():
        assert torch.equal(trainer.network.state_dict()[name], tensor)
    with pytest.raises(InputError, match=r"network.start: found ReDCLite .* expected MSGCHN"):
        Trainer(recipe_for(folder, network={**start, "name": "msg_chn"}), tmp_path / "third")


def test_a_student_follows_its_teacher(folder, tmp_path):
    trained(folder, tmp_path / "teacher")
    model = tmp_path / "teacher" / "redc_lite.safetensors"
    taught = {"teacher": str(model), "depth": 0.5, "gradient": 0.5}
    trainer = Trainer(recipe_for(folder, distillation=taught), tmp_path / "student")
    assert [done for done, _ in trainer.prepare()] == [1, 2, 3, 4]
    cached = sorted(p.name for p in (tmp_path / "student" / "teacher").iterdir())
    assert cached == ["0_a_1.png", "0_a_2.png", "0_b_1.png", "0_lidar_only.png"]
    list(trainer.run())
    row = json.loads((tmp_path / "student" / "log.jsonl").read_text().splitlines()[-1])
    # All of the loss is the teacher's.
    parts = 0.5 * row["teacher_depth"] + 0.5 * row["teacher_gradient"]
    assert row["loss"] == pytest.approx(parts, rel=1e-5)


def test_a_folder_of_predictions_teaches_too(folder, tmp_path):
    predictions = tmp_path / "predictions" / "depth"
    for name in ("a_1", "a_2", "b_1"):
        write_depth_png(predictions / f"{name}.png", np.full((64, 96), 7, np.float32))
    groups = {
        "distillation": {"teacher": str(predictions.parent), "depth": 1.0, "gradient": 0.0},
        "data": {"sources": [{"path": str(folder), "exclude": ["lidar_only"]}]},
    }
    _, losses = trained(folder, tmp_path / "out", **groups)
    assert all(np.isfinite(losses))
    (predictions / "b_1.png").unlink()
    with pytest.raises(InputError, match=r"no prediction of 1 frames of 3, b_1.png"):
        list(Trainer(recipe_for(folder, **groups), tmp_path / "b").prepare())


def test_averaged_weights_follow_slowly():
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    average = AveragedWeights(network, 0.9)
    torch.nn.init.ones_(network.weight)
    average.update()  # the first steps weigh more: 1 / (1 + 9)
    with average.applied():
        assert network.weight.item() == pytest.approx(0.9)
    assert network.weight.item() == 1


def test_half_precision_trains(folder, tmp_path):
    _, losses = trained(
        folder, tmp_path / "out", run={"batch": 2, "device": "cpu", "precision": "bf16"}
    )
    assert all(np.isfinite(losses))


def test_tensorboard_gets_loss_and_scores(folder, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    groups = {
        "data": {"sources": [{"path": str(folder), "include": ["a_*"]}]},
        "selection": {"sources": [{"path": str(folder), "include": ["b_*"]}]},
        "run": {"batch": 2, "device": "cpu", "log_every": 1},
    }
    _, losses = trained(folder, tmp_path / "out", **groups)
    events = EventAccumulator(str(tmp_path / "out" / "tensorboard")).Reload()
    assert [e.value for e in events.Scalars("loss")] == pytest.approx(losses)
    assert len(events.Scalars("rmse_mm/frames")) == 1
