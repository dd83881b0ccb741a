"""Train a network as a recipe says, from the first step or from wherever a run stopped.

Not here: samples (`samples.py`), losses (`losses.py`) and what is printed (`cli/train.py`).
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ..errors import BackendError, InputError
from ..networks.checkpoint import load_published, open_network, save_network
from ..networks.network import Backbone, DepthNetwork
from ..networks.registry import build_network
from ..settings import OcclusionFilterSettings, ProjectionSettings
from ..share import find_share_file
from .averaging import AveragedWeights
from .checkpoint import has_state, read_state, write_state
from .distillation import Teacher
from .inputs import InputMaker
from .losses import Loss, distillation_loss, supervised_loss
from .parallel import Processes
from .recipe import NetworkChoice, Recipe, StageSettings, make_recipe, recipe_text
from .report import RunLog
from .samples import Samples
from .schedule import rate_factor
from .selection import Score, Selector, predict
from .side_losses import SideLosses
from .sources import FramePool

# What may differ when a run goes on: it changes no result but the speed.
_MACHINE_SETTINGS = ("device", "threads", "workers", "checkpoint_seconds", "log_every")


class Progress(NamedTuple):
    """Say what a step has done.

    Attributes:
        step, total: steps of the whole run, the number of the last done and how many there are.
        stage: number of the stage, from 0.
        epoch: of the stage.
        loss: mean over all processes.
        rate: learning rate of the step.
        score: if the network was scored after this step.
        is_best: whether that score is the best of the stage.
    """

    step: int
    total: int
    stage: int
    epoch: float
    loss: float
    rate: float
    score: Score | None = None
    is_best: bool = False


class Trainer:
    """One run: a recipe, a folder, a network on its way.

    Attributes:
        network: on the device, with the weights after the last step.
        total_steps: of all stages.
        step: steps done.
        model_path: where the chosen model is kept.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        *,
        data_folder: Path = Path(),
        resume: bool = False,
        processes: Processes | None = None,
    ) -> None:
        """Open the data and build the network.

        Args:
            recipe: what to do.
            folder: where checkpoints, the log and the model go.
            data_folder: where relative paths of sources start.
            resume: go on from the folder's checkpoint, if there is one.
            processes: this process among others; None is alone.

        Raises:
            InputError: data, network or recipe do not fit together; the folder holds a run
                already, or one of another recipe.
            ModelFileError: the weights to start from cannot be read.
            BackendError: the device is not there.
        """
        self.recipe, self.folder = recipe, folder
        self._processes = processes or Processes()
        self._data_folder = data_folder
        self.model_path = folder / f"{recipe.network.name}.safetensors"
        if has_state(folder) and not resume:
            msg = f"{folder}: holds a run already; go on with --resume or choose another --out"
            raise InputError(msg)
        run = recipe.run
        cv2.setNumThreads(1)  # frames are small, and workers many
        if run.threads:
            torch.set_num_threads(run.threads)
        self._device = find_device(run.device, self._processes)
        torch.manual_seed(run.seed)
        self.network = _start_network(recipe.network, data_folder).to(self._device)
        self._inputs = InputMaker(recipe.network.name, dataclasses.asdict(self.network.settings))
        self._pool = FramePool(
            recipe.data.sources, data_folder, cache_bytes=recipe.data.cache << 20
        )
        self._selector = self._open_selection()
        self._teacher = self._find_teacher()
        self._lengths = [self._steps_of(stage) for stage in recipe.stages]
        self.total_steps = sum(self._lengths)
        self.step = 0
        self._samples_done = 0
        self._best = math.inf
        self._average = AveragedWeights(self.network, recipe.optimiser.ema)
        self._resumed = read_state(folder) if resume else None
        if self._resumed is not None:
            self._check_recipe(self._resumed)
            self.network.load_state_dict(self._resumed["network"])
            self._average.load(self._resumed["average"])
            self.step = int(self._resumed["step"])
            self._samples_done = int(self._resumed["samples"])
            self._best = float(self._resumed["best"])
        for stage in recipe.stages:
            check_part(self.network, stage.train)
            self._processes.part_of(stage.batch or run.batch)
        self._log: RunLog | None = None
        self._last_write = time.monotonic()

    def prepare(self) -> Iterator[tuple[int, int]]:
        """Let the teacher predict what is not there yet.

        Yields:
            How many frames are done, of how many.
        """
        if self._teacher is None:
            return
        if self._processes.rank == 0:
            projection = _projection(self.recipe)
            for done in self._teacher.prepare(self._pool, projection, self._device):
                yield done, len(self._pool)
        self._processes.wait()

    def run(self) -> Iterator[Progress]:
        """Train to the end, one step at a time.

        Yields:
            What each step has done. Between two steps the run may be left; the checkpoint says
            where it goes on.

        Raises:
            InputError: the loss is no number, or no sample can be made.
        """
        if self._processes.rank == 0:
            self._log = RunLog(self.folder, self.step)
        try:
            first = 0
            for number, stage in enumerate(self.recipe.stages):
                last = first + self._lengths[number]
                if self.step < last:
                    yield from self._run_stage(number, stage, first, last)
                first = last
        finally:
            if self._log is not None:
                self._log.close()
        self._processes.wait()

    def frame_counts(self) -> dict[str, int]:
        """Count the training frames by source."""
        counts: dict[str, int] = {}
        for place in self._pool.places:
            name = self._pool.name_of(place)
            counts[name] = counts.get(name, 0) + 1
        return counts

    def close(self) -> None:
        """Close the sources."""
        self._pool.close()

    def _run_stage(
        self, number: int, stage: StageSettings, first: int, last: int
    ) -> Iterator[Progress]:
        recipe, processes = self.recipe, self._processes
        module, parameters = trained_part(self.network, stage.train)
        optimiser = self._optimiser(stage, parameters)
        scaler = torch.amp.GradScaler(self._device.type, enabled=recipe.run.precision == "fp16")
        if self._resumed is not None and self._resumed["stage"] == number and self.step > first:
            optimiser.load_state_dict(self._resumed["optimiser"])
            scaler.load_state_dict(self._resumed["scaler"])
        else:
            self._best = math.inf
        self._resumed = None
        joined = processes.joined(module, skips_parts=recipe.network.name == "lrru")
        side = SideLosses(module, stage.loss or recipe.loss)
        batch = stage.batch or recipe.run.batch
        steps_per_epoch = len(self._pool) / batch
        schedule = stage.schedule or recipe.schedule
        last_score = -1
        for arrays in self._batches(stage, batch, last - self.step):
            done = self.step - first
            epoch = done / steps_per_epoch
            factor = rate_factor(schedule, done, last - first, steps_per_epoch)
            rate = (stage.rate or recipe.optimiser.rate) * factor
            for group in optimiser.param_groups:
                group["lr"] = rate * group["factor"]
            # Stochastic layers depend on the step alone, so that a run can go on anywhere.
            torch.manual_seed(recipe.run.seed * 1_000_003 + self.step)
            _set_training(self.network, stage.train)
            loss = self._loss(joined, side, arrays, stage, epoch)
            optimiser.zero_grad(set_to_none=True)
            scaler.scale(loss.total).backward()  # type: ignore[no-untyped-call]
            if recipe.optimiser.clip:
                scaler.unscale_(optimiser)
                nn.utils.clip_grad_norm_(parameters, recipe.optimiser.clip)
            scaler.step(optimiser)
            scaler.update()
            self._average.update()
            value = processes.mean(float(loss.total.detach()))
            if not math.isfinite(value):
                msg = (
                    f"loss: found {value} after step {self.step + 1}; expected a number; lower "
                    "optimiser.rate, or set optimiser.clip"
                )
                raise InputError(msg)
            self.step += 1
            self._samples_done += batch
            is_end = self.step == last
            score, is_best = None, False
            every = recipe.selection.every
            if is_end or (every and (self.step - first) % every == 0):
                score, is_best = self._select(module)
                last_score = self.step
            progress = Progress(
                self.step, self.total_steps, number, epoch, value, rate, score, is_best
            )
            if self._log is not None:
                self._log.add(progress, loss.parts, recipe.run.log_every)
            if is_end or last_score == self.step or self._is_checkpoint_due():
                self._write_checkpoint(number, optimiser, scaler)
            yield progress
        side.close()

    def _loss(
        self,
        joined: nn.Module,
        side: SideLosses,
        arrays: dict[str, Tensor],
        stage: StageSettings,
        epoch: float,
    ) -> Loss:
        recipe = self.recipe
        settings = stage.loss or recipe.loss
        batch = {
            name: tensor.to(self._device, non_blocking=True) for name, tensor in arrays.items()
        }
        precision = recipe.run.precision
        half = torch.bfloat16 if precision == "bf16" else torch.float16
        with torch.autocast(self._device.type, half, enabled=precision != "fp32"):
            output = predict(joined, {name: batch[name] for name in self._inputs.names})
        weight = 1 + batch["held_out"] * (settings.hold_out - 1)
        loss = supervised_loss(
            output,
            batch["truth"],
            weight,
            settings,
            epoch=epoch,
            share=self._processes.share,
        )
        beside, beside_parts = side.loss(output, batch["truth"])
        total, parts = loss.total + beside, {**loss.parts, **beside_parts}
        if "teacher" in batch:
            shares = recipe.distillation
            taught = distillation_loss(
                output.depth.float(), batch["teacher"], shares, share=self._processes.share
            )
            total = (1 - shares.depth - shares.gradient) * total + taught.total
            parts = {**parts, **taught.parts}
        if settings.parameters:
            squares = [p.square().sum() for p in joined.parameters() if p.requires_grad]
            total = total + settings.parameters * torch.stack(squares).sum()
        return Loss(total, parts)

    def _batches(
        self, stage: StageSettings, batch: int, count: int
    ) -> Iterator[dict[str, Tensor]]:
        recipe, processes = self.recipe, self._processes
        samples = Samples(
            self._pool,
            self._inputs,
            recipe.augmentation,
            recipe.data,
            seed=recipe.run.seed,
            crop=stage.crop,
            teacher=self._teacher,
        )
        part = processes.part_of(batch)
        start = self._samples_done
        numbers = [
            start + step * batch + processes.rank * part + i
            for step in range(count)
            for i in range(part)
        ]
        loader: Any = torch.utils.data.DataLoader(
            samples,  # type: ignore[arg-type]
            batch_size=part,
            sampler=numbers,
            num_workers=recipe.run.workers,
            worker_init_fn=_start_worker,
            pin_memory=self._device.type == "cuda",
            collate_fn=_stack,
        )
        yield from loader

    def _select(self, module: DepthNetwork) -> tuple[Score | None, bool]:
        """Score the averaged weights on process 0, and keep them if they are the best."""
        score, is_best = None, False
        if self._processes.rank == 0:
            with self._average.applied():
                if self._selector is not None:
                    score = self._selector.score(module, self._device)
                value = score.value if score is not None else -float(self.step)
                is_best = value < self._best
                if is_best:
                    self._best = value
                    self._save_model(score)
        self._processes.wait()
        return score, is_best

    def _save_model(self, score: Score | None) -> None:
        """Write the model file; the network has the averaged weights at this time."""
        recipe = self.recipe
        training = {
            "steps": self.step,
            "of": self.total_steps,
            "frames": len(self._pool),
            "torch": torch.__version__,
            "device": self._device.type,
            "selection": None
            if score is None
            else {name: row._asdict() for name, row in score.sources.items()},
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        save_network(
            self.network,
            self.model_path,
            {
                "recipe": recipe_text(recipe),
                "recipe_sha256": recipe.sha256(),
                "training": json.dumps(training, sort_keys=True),
            },
        )

    def _is_checkpoint_due(self) -> bool:
        # The clocks of processes differ; the steps decide for all of them on process 0 alone.
        return time.monotonic() - self._last_write >= self.recipe.run.checkpoint_seconds

    def _write_checkpoint(
        self, stage: int, optimiser: torch.optim.Optimizer, scaler: torch.amp.GradScaler
    ) -> None:
        if self._processes.rank == 0:
            write_state(
                self.folder,
                {
                    "recipe": recipe_text(self.recipe),
                    "step": self.step,
                    "samples": self._samples_done,
                    "stage": stage,
                    "best": self._best,
                    "network": self.network.state_dict(),
                    "average": self._average.state(),
                    "optimiser": optimiser.state_dict(),
                    "scaler": scaler.state_dict(),
                },
            )
        self._last_write = time.monotonic()

    def _check_recipe(self, state: dict[str, Any]) -> None:
        before = _comparable(make_recipe(json.loads(state["recipe"])))
        now = _comparable(self.recipe)
        if before != now:
            where = next(name for name in now if now[name] != before[name])
            msg = (
                f"{self.folder}: its run has another recipe (they differ in {where}); go on with "
                "the same, or choose another --out"
            )
            raise InputError(msg)

    def _optimiser(
        self, stage: StageSettings, parameters: list[nn.Parameter]
    ) -> torch.optim.Optimizer:
        settings = self.recipe.optimiser
        backbone = _backbone_of(self.network)
        slow = set() if backbone is None else {id(p) for p in backbone.parameters()}
        groups = [
            {"params": [p for p in parameters if id(p) not in slow], "factor": 1.0},
            {"params": [p for p in parameters if id(p) in slow], "factor": stage.backbone_rate},
        ]
        kind: Any = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.kind]
        optimiser: torch.optim.Optimizer = kind(
            [group for group in groups if group["params"]],
            lr=stage.rate or settings.rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
        )
        return optimiser

    def _steps_of(self, stage: StageSettings) -> int:
        if stage.steps:
            return stage.steps
        batch = stage.batch or self.recipe.run.batch
        return max(1, math.ceil(stage.epochs * len(self._pool) / batch))

    def _open_selection(self) -> Selector | None:
        recipe = self.recipe
        if not recipe.selection.sources or self._processes.rank:
            return None
        pool = FramePool(
            recipe.selection.sources, self._data_folder, cache_bytes=recipe.data.cache << 20
        )
        check_apart(self._pool, pool)
        return Selector(pool, self._inputs, recipe.selection, recipe.data, recipe.run.seed)

    def _find_teacher(self) -> Teacher | None:
        path = self.recipe.distillation.teacher
        if not path:
            return None
        return Teacher(self._data_folder / Path(path).expanduser(), self.folder / "teacher")


def trained_part(network: DepthNetwork, train: str) -> tuple[DepthNetwork, list[nn.Parameter]]:
    """Choose what a stage runs and what it changes; the rest is frozen.

    Args:
        network: any; only some have a backbone apart.
        train: `all`, `backbone` or `refinement`.

    """
    backbone = _backbone_of(network)
    inside = set() if backbone is None else {id(p) for p in backbone.parameters()}
    for parameter in network.parameters():
        is_wanted = train == "all" or (id(parameter) in inside) == (train == "backbone")
        parameter.requires_grad_(is_wanted)
    module = backbone if train == "backbone" and backbone is not None else network
    return module, [p for p in network.parameters() if p.requires_grad]


def check_part(network: DepthNetwork, train: str) -> None:
    """Make sure that a network has the part that a stage trains.

    Raises:
        InputError: it has not.
    """
    if train != "all" and _backbone_of(network) is None:
        msg = f"stages: found train: {train}, but this network has no backbone apart; take all"
        raise InputError(msg)


def check_apart(training: FramePool, selection: FramePool) -> None:
    """Make sure that no frame is trained on and selects as well.

    Raises:
        InputError: one does.
    """
    trained = {_identity(training, place) for place in training.places}
    both = [p for p in selection.places if _identity(selection, p) in trained]
    if both:
        source = selection.sources[both[0].source]
        name = source.names[both[0].number]
        msg = (
            f"selection: {len(both)} frames are trained on as well, {name} of {source.path} for "
            "example; exclude them from data.sources"
        )
        raise InputError(msg)


def find_device(name: str, processes: Processes) -> torch.device:
    """Find the device that a recipe asks for.

    Raises:
        InputError: no such name.
        BackendError: it is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        msg = f"run.device: found {name!r}, expected auto, cpu, cuda or cuda:N"
        raise InputError(msg)
    if kind == "cpu":
        return torch.device("cpu")
    index = int(number) if number else processes.local_rank
    if not torch.cuda.is_available() or index >= torch.cuda.device_count():
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        msg = f"run.device: found {found} CUDA devices, expected {name}; take cpu"
        raise BackendError(msg)
    return torch.device("cuda", index)


def _start_network(choice: NetworkChoice, folder: Path) -> DepthNetwork:
    network = build_network(choice.name, **choice.settings)
    if not choice.start:
        return network
    path = folder / Path(choice.start).expanduser()
    if not path.is_file():
        path = find_share_file(choice.start)  # such as models/redc_lite.safetensors
    if path.suffix != ".safetensors":
        load_published(network, path)
        return network
    started, _ = open_network(path)
    if type(started) is not type(network) or (
        choice.settings and started.settings != network.settings
    ):
        msg = (
            f"network.start: found {type(started).__name__} with {started.settings} in {path}, "
            f"expected {type(network).__name__} with {network.settings}"
        )
        raise InputError(msg)
    return started.train()


def _backbone_of(network: DepthNetwork) -> Backbone | None:
    # CDSPN holds its form as a network of its own.
    inner = getattr(network, "network", network)
    backbone = getattr(inner, "backbone", None)
    return backbone if isinstance(backbone, Backbone) else None


def _set_training(network: DepthNetwork, train: str) -> None:
    """Let what is trained be in training mode, and what is frozen not."""
    network.train()
    backbone = _backbone_of(network)
    if train == "refinement" and backbone is not None:
        backbone.eval()


def _projection(recipe: Recipe) -> ProjectionSettings:
    data = recipe.data
    return ProjectionSettings(
        min_depth=data.min_depth,
        max_depth=data.max_depth,
        occlusion_filter=OcclusionFilterSettings(enabled=data.occlusion_filter),
    )


def _comparable(recipe: Recipe) -> dict[str, Any]:
    tree = dataclasses.asdict(recipe)
    for name in _MACHINE_SETTINGS:
        del tree["run"][name]
    # JSON knows no tuples.
    plain: dict[str, Any] = json.loads(json.dumps(tree))
    return plain


def _identity(pool: FramePool, place: Any) -> tuple[str, str, str]:
    source = pool.sources[place.source]
    camera = pool.choices[place.source].camera
    return str(source.path.resolve()), camera, source.names[place.number]


def _start_worker(_: int) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def _stack(samples: list[dict[str, np.ndarray]]) -> dict[str, Tensor]:
    shapes = {sample["sparse"].shape for sample in samples}
    if len(shapes) > 1:
        sizes = " and ".join(f"{s[2]}x{s[1]}" for s in sorted(shapes))
        msg = f"batch: found images of {sizes}, expected one size; set augmentation.crop"
        raise InputError(msg)
    return {
        name: torch.from_numpy(np.stack([sample[name] for sample in samples]))
        for name in samples[0]
    }
