"""`depth_completion train`: train a network on one's own data, as a recipe says."""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import add_command, add_json_flag, add_resume_flag
from .output import format_table, print_json

if TYPE_CHECKING:
    from ..training.loop import Progress, Trainer
    from ..training.selection import Score

# Seconds between two lines where there is no terminal.
_LINE_PERIOD = 10.0
_WIDEST_BAR = 100

_DESCRIPTION = """
CONFIG is a YAML recipe, or the name of one that comes with the package (config/train/). It names
sources of frames: any SOURCE; frames without ground truth have part of their LiDAR held out. What
a run writes: NAME.safetensors (the best on the recipe's selection, for --weights), log.jsonl, and
checkpoints from which --resume goes on after anything. Several GPUs or machines: start it with
torchrun.
"""
_EXAMPLES = """
depth_completion train redc --data /data/kitti_depth --out runs/redc
depth_completion train my_robot.yaml --out runs/my_robot --set run.batch=8
depth_completion train my_robot.yaml --out runs/my_robot --resume
torchrun --nproc_per_node 4 -m depth_completion_ros.cli.main train redc --data /data/kitti_depth
"""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "train",
        summary="Train a network as a recipe says.",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    parser.add_argument("config", metavar="CONFIG", help="recipe: YAML file, or name of one")
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        default=".",
        help="where relative paths of the recipe start (default: the current folder)",
    )
    parser.add_argument(
        "--out", metavar="FOLDER", help="where the run is written (default: runs/NAME)"
    )
    parser.add_argument(
        "--set",
        metavar="GROUP.SETTING=VALUE",
        action="append",
        default=[],
        help="change a setting of the recipe; may be given again",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="open the data, build the network, say what would be done, and stop",
    )
    add_resume_flag(parser)
    add_json_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Train, show how far it is, and say what came out."""
    from ..errors import BackendError
    from ..training.recipe import read_recipe

    recipe = read_recipe(args.config, args.set)
    try:
        from ..training.loop import Trainer
        from ..training.parallel import Processes
    except ModuleNotFoundError as error:
        msg = (
            f"train: no module {error.name!r}; install it with pip install depth_completion[torch]"
        )
        raise BackendError(msg) from error
    folder = Path(args.out or f"runs/{Path(args.config).stem}")
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    processes = Processes.join(recipe.run.device)
    try:
        trainer = Trainer(
            recipe,
            folder,
            data_folder=Path(args.data),
            resume=args.resume,
            processes=processes,
        )
        try:
            if args.check:
                return _describe(trainer, args)
            return _train(trainer, args, is_speaker=processes.rank == 0)
        finally:
            trainer.close()
    finally:
        processes.leave()


def _train(trainer: Trainer, args: argparse.Namespace, *, is_speaker: bool) -> int:
    for done, total in trainer.prepare():
        if done == total:
            print(f"teacher: {total} frames", file=sys.stderr)
    start = time.monotonic()
    first = trainer.step
    score: Score | None = None
    for progress in _shown(trainer, is_speaker):
        if progress.is_best and progress.score is not None:
            score = progress.score
    if not is_speaker:
        return 0
    report = {
        "model": str(trainer.model_path),
        "network": trainer.recipe.network.name,
        "steps": trainer.step,
        "steps_of_this_call": trainer.step - first,
        "seconds": round(time.monotonic() - start, 1),
        "recipe_sha256": trainer.recipe.sha256(),
        "selection": None
        if score is None
        else {name: row._asdict() for name, row in score.sources.items()},
    }
    if args.json:
        print_json(report)
    else:
        print(f"{report['model']}: {report['network']} after {report['steps']} steps")
        if score is not None:
            print(f"\n{_score_table(score)}")
    return 0


def _describe(trainer: Trainer, args: argparse.Namespace) -> int:
    parameters = sum(p.numel() for p in trainer.network.parameters())
    report: dict[str, Any] = {
        "network": trainer.recipe.network.name,
        "parameters": parameters,
        "frames": trainer.frame_counts(),
        "steps": trainer.total_steps,
        "steps_done": trainer.step,
    }
    if args.json:
        print_json(report)
    else:
        counts = ", ".join(f"{name} {count}" for name, count in report["frames"].items())
        print(f"{report['network']}: {parameters:,} parameters, {trainer.total_steps} steps")
        print(f"frames: {counts}")
    return 0


def _shown(trainer: Trainer, is_speaker: bool) -> Iterator[Progress]:
    steps = trainer.run()
    if not is_speaker:
        yield from steps
    elif sys.stderr.isatty():
        yield from _with_bar(trainer, steps)
    else:
        yield from _with_lines(steps)


def _with_bar(trainer: Trainer, steps: Iterator[Progress]) -> Iterator[Progress]:
    from tqdm import tqdm

    size = shutil.get_terminal_size()
    with tqdm(
        total=trainer.total_steps,
        initial=trainer.step,
        desc="train",
        unit="step",
        file=sys.stderr,
        ncols=min(size.columns, _WIDEST_BAR),
        nrows=size.lines,
    ) as bar:
        for progress in steps:
            bar.update()
            bar.set_postfix(loss=f"{progress.loss:.3g}", refresh=False)
            if progress.score is not None:
                with suppress(OSError):
                    bar.write(_score_line(progress), file=sys.stderr)
            yield progress


def _with_lines(steps: Iterator[Progress]) -> Iterator[Progress]:
    start = last = time.monotonic()
    losses: list[float] = []
    for progress in steps:
        losses.append(progress.loss)
        now = time.monotonic()
        if now - last >= _LINE_PERIOD:
            loss = sum(losses) / len(losses)
            print(
                f"train: {progress.step}/{progress.total} steps, {now - start:.0f} s, "
                f"loss {loss:.4g}",
                file=sys.stderr,
            )
            last = now
            losses.clear()
        if progress.score is not None:
            print(_score_line(progress), file=sys.stderr)
        yield progress


def _score_line(progress: Progress) -> str:
    assert progress.score is not None
    parts = [
        f"{name} {row.rmse_mm:.0f} / {row.mae_mm:.0f} mm"
        for name, row in progress.score.sources.items()
    ]
    best = ", the best" if progress.is_best else ""
    return (
        f"step {progress.step}: {', '.join(parts)}; {progress.score.value:.3f} of IP-Basic{best}"
    )


def _score_table(score: Score) -> str:
    rows = [
        (
            name,
            str(row.frames),
            f"{row.rmse_mm:.0f}",
            f"{row.mae_mm:.0f}",
            f"{row.rmse_mm / row.fill_rmse_mm:.3f}",
            f"{row.mae_mm / row.fill_mae_mm:.3f}",
        )
        for name, row in score.sources.items()
    ]
    header = ("selection", "frames", "RMSE mm", "MAE mm", "RMSE / IP-Basic", "MAE / IP-Basic")
    return format_table(header, rows)
