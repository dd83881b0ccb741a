"""Render a drive and write it in KITTI's raw layout, whole or not at all.

Not here: the reader (`datasets/kitti_raw.py`), which opens the result like any other drive.
Look next at `scene.py` for what is on the street.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from ...errors import InputError
from .camera import CameraSensor
from .lidar import LidarSensor
from .oxts import DATA_FORMAT, oxts_lines
from .rays import RayCaster
from .recipe import SyntheticRecipe, draw_recipe, read_recipe
from .rig import build_rig, calibration_files
from .scene import build_scene, draw_ego_motion
from .shading import Shader, choose_light
from .surface import SurfaceReader
from .textures import PatternBook

if TYPE_CHECKING:
    from ..base import Dataset

DATE = "2024_06_21"
# Ten o'clock, as nanoseconds within the day.
_START_NS = 10 * 3600 * 10**9
# Changes when equal recipes give other bytes than before, so that caches are made anew.
_RENDERER = 3
# Fewer frames than this per process do not pay for building the street once more.
_FRAMES_PER_WORKER = 8

Progress = Callable[[int, int], None]


class DriveRenderer:
    """Render the frames of one recipe, in any order."""

    def __init__(self, recipe: SyntheticRecipe) -> None:
        """Build the scene; takes a few seconds."""
        recipe = draw_recipe(recipe)
        self.recipe = recipe
        self.rig = build_rig(recipe)
        self.scene = build_scene(recipe)
        caster = RayCaster(self.scene.static, self.scene.movers)
        book = PatternBook(recipe.seed)
        reader = SurfaceReader(caster, book)
        light = choose_light(recipe)
        shader = Shader(self.scene, caster, book, light)
        self.camera = CameraSensor(recipe, self.rig, caster, reader, shader)
        self.lidar = LidarSensor(recipe, self.rig, caster, reader, self.scene.ego, light.fog)

    def write_frame(self, drive: Path, index: int) -> None:
        """Render one frame and write its images, its depth and its scan.

        Args:
            drive: the `_sync` folder.
            index: number of the frame.
        """
        time = index / self.recipe.rate
        name = f"{index:010d}"
        T_world_base = self.scene.ego.poses(time).matrices()[0]
        for folder in self.recipe.camera_names:
            camera = int(folder[-2:])
            rng = np.random.default_rng([self.recipe.seed, 3, index, camera])
            view = self.camera.take(T_world_base, camera, time, rng)
            image = drive / folder / "data" / f"{name}.{self.recipe.image_format}"
            _write_image(image, view.image[..., ::-1])
            depth = np.rint(view.depth * 256).astype(np.uint16)
            _write_image(drive / "depth_gt" / folder / f"{name}.png", depth)
        rng = np.random.default_rng([self.recipe.seed, 4, index])
        scan = self.lidar.scan(time, rng)
        (drive / "velodyne_points" / "data" / f"{name}.bin").write_bytes(scan.tobytes())


def render_drive(
    recipe: SyntheticRecipe,
    out_folder: str | Path,
    *,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Path:
    """Render a drive into a folder; what is interrupted leaves nothing behind but a hidden folder.

    Args:
        recipe: what to render; the same recipe gives the same bytes.
        out_folder: gets `DATE/DATE_drive_NNNN_sync` and the calibration files.
        progress: called with frames done and frames in all.
        workers: processes; None takes one per core, fewer for short drives.

    Returns:
        The `_sync` folder. It holds `depth_gt/image_02/NAME.png`, the exact depth, and
        `recipe.json` besides KITTI's files. If it is already there from the same recipe, it is
        returned as it is.

    Raises:
        InputError: the folder cannot be written, or holds another drive of the same name or
            another calibration, or the ray tracer is missing.
    """
    out = Path(out_folder)
    final = out / DATE / f"{DATE}_drive_{recipe.seed % 10000:04d}_sync"
    if _is_there(final, recipe):
        return final
    try:
        out.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".partial-", dir=out))
    except OSError as error:
        msg = f"{out}: cannot be written ({error.strerror}); choose another folder"
        raise InputError(msg) from error
    try:
        drive = temporary / final.name
        _write_frame_independent(recipe, temporary, drive)
        _write_frames(recipe, drive, progress, workers)
        return _move_into_place(temporary, drive, final)
    except OSError as error:
        # Another process may have rendered the same recipe meanwhile.
        if _is_there(final, recipe):
            return final
        msg = f"{out}: cannot be written ({error.strerror or error}); is the disk full?"
        raise InputError(msg) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def open_recipe(
    path: str | Path,
    *,
    cache: str | Path | None = None,
    camera: str = "image_02",
    progress: Progress | None = None,
) -> Dataset:
    """Render a recipe once and open the drive.

    Args:
        path: YAML file, see `read_recipe`.
        cache: where rendered drives are kept; None takes `depth_completion/synthetic` in the
            user's cache folder.
        camera: which camera to open.
        progress: called with frames done and frames in all, if rendering is needed.

    Returns:
        The drive as the reader of KITTI raw drives opens it.

    Raises:
        InputError: the recipe cannot be used or the drive not be written.
    """
    from ..kitti_raw import KittiRawDrive

    recipe = read_recipe(path)
    folder = _cache_folder() if cache is None else Path(cache)
    drive = render_drive(recipe, folder / recipe_key(recipe), progress=progress)
    return KittiRawDrive(drive, camera=camera)


def recipe_key(recipe: SyntheticRecipe) -> str:
    """Name what a recipe renders to: equal names, equal bytes."""
    return hashlib.sha256(_recipe_text(recipe).encode()).hexdigest()[:16]


def _cache_folder() -> Path:
    # XDG base directory specification: an empty variable counts as unset.
    base = os.environ.get("XDG_CACHE_HOME", "") or "~/.cache"
    return Path(base).expanduser() / "depth_completion" / "synthetic"


def _recipe_text(recipe: SyntheticRecipe) -> str:
    values = {"renderer": _RENDERER, **dataclasses.asdict(recipe)}
    return json.dumps(values, indent=1) + "\n"


def _is_there(final: Path, recipe: SyntheticRecipe) -> bool:
    if not final.exists():
        return False
    note = final / "recipe.json"
    if note.is_file() and note.read_text(encoding="utf-8") == _recipe_text(recipe):
        return True
    msg = (
        f"{final}: found another drive; expected none or one of the same recipe, "
        "remove it or choose another folder or seed"
    )
    raise InputError(msg)


def _write_frame_independent(recipe: SyntheticRecipe, date: Path, drive: Path) -> None:
    """Write folders, calibration, stamps and oxts."""
    drawn = draw_recipe(recipe)
    rig = build_rig(drawn)
    for name, text in calibration_files(rig).items():
        (date / name).write_text(text, encoding="ascii")
    for folder in recipe.camera_names:
        (drive / folder / "data").mkdir(parents=True)
        (drive / "depth_gt" / folder).mkdir(parents=True)
    for folder in ("velodyne_points", "oxts"):
        (drive / folder / "data").mkdir(parents=True)
    (drive / "recipe.json").write_text(_recipe_text(recipe), encoding="utf-8")
    count = recipe.frames
    stamps = np.rint(np.arange(count) / drawn.rate * 1e9).astype(np.int64)
    half = round(0.5e9 / drawn.rate)
    for folder in (*recipe.camera_names, "oxts", "velodyne_points"):
        _write_stamps(drive / folder / "timestamps.txt", stamps)
    _write_stamps(drive / "velodyne_points" / "timestamps_start.txt", stamps - half)
    _write_stamps(drive / "velodyne_points" / "timestamps_end.txt", stamps + half)
    (drive / "oxts" / "dataformat.txt").write_text(DATA_FORMAT, encoding="ascii")
    ego = draw_ego_motion(drawn)
    for index, line in enumerate(oxts_lines(ego, rig, np.arange(count) / drawn.rate)):
        (drive / "oxts" / "data" / f"{index:010d}.txt").write_text(line, encoding="ascii")


def _write_stamps(path: Path, nanoseconds: np.ndarray) -> None:
    day = DATE.replace("_", "-")
    lines = []
    for ns in nanoseconds + _START_NS:
        seconds, rest = divmod(int(ns), 10**9)
        minutes, second = divmod(seconds, 60)
        lines.append(f"{day} {minutes // 60:02}:{minutes % 60:02}:{second:02}.{rest:09}\n")
    path.write_text("".join(lines), encoding="ascii")


def _write_frames(
    recipe: SyntheticRecipe, drive: Path, progress: Progress | None, workers: int | None
) -> None:
    """Share the frames between processes; each builds the same scene for itself."""
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        workers = max(1, min(cores, recipe.frames // _FRAMES_PER_WORKER))
    if workers == 1:
        renderer = DriveRenderer(recipe)
        for index in range(recipe.frames):
            renderer.write_frame(drive, index)
            if progress is not None:
                progress(index + 1, recipe.frames)
        return
    with contextlib.ExitStack() as stack:
        logs = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(workers)]
        processes = [
            stack.enter_context(_running(_start_worker(drive, first, workers, log)))
            for first, log in enumerate(logs)
        ]
        for done, _ in enumerate(_read_lines(processes), start=1):
            if progress is not None:
                progress(done, recipe.frames)
        for process, log in zip(processes, logs, strict=True):
            if process.wait() != 0:
                log.seek(0)
                reason = " ".join(log.read().strip().splitlines()[-1:])
                msg = f"{drive.name}: a rendering process failed ({reason})"
                raise InputError(msg)


@contextlib.contextmanager
def _running(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """End a process when the block ends, also by an error or Ctrl-C."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _read_lines(processes: list[subprocess.Popen[str]]) -> Iterator[str]:
    """Give the lines of several processes as they come, until all have ended."""
    with selectors.DefaultSelector() as selector:
        for process in processes:
            selector.register(process.stdout, selectors.EVENT_READ)  # type: ignore[arg-type]
        while selector.get_map():
            for key, _ in selector.select():
                line = key.fileobj.readline()  # type: ignore[union-attr]
                if line:
                    yield line
                else:
                    selector.unregister(key.fileobj)


def _start_worker(drive: Path, first: int, step: int, log: IO[str]) -> subprocess.Popen[str]:
    """Start a process that renders every `step`-th frame.

    Not multiprocessing: it would import the caller's main module again, or fork its threads.
    """
    package_parent = str(Path(__file__).resolve().parents[3])
    paths = [package_parent, os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(p for p in paths if p),
        # One process per core: threads of the linear algebra would only wait for each other.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", f"{__package__}.worker", str(drive), str(first), str(step)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1,
        env=environment,
    )  # fmt: skip


def _move_into_place(temporary: Path, drive: Path, final: Path) -> Path:
    """Rename the finished drive to where it belongs, beside an equal calibration."""
    if not final.parent.exists():
        date = temporary / DATE
        date.mkdir()
        for path in [*temporary.glob("calib_*.txt"), drive]:
            path.rename(date / path.name)
        date.rename(final.parent)
        return final
    for path in temporary.glob("calib_*.txt"):
        there = final.parent / path.name
        if not there.is_file() or there.read_bytes() != path.read_bytes():
            msg = (
                f"{there}: found another calibration; drives of one date share it, "
                "choose another folder for this recipe"
            )
            raise InputError(msg)
    drive.rename(final)
    return final


def _write_image(path: Path, pixels: np.ndarray) -> None:
    import cv2

    png = path.suffix == ".png"
    quality = [cv2.IMWRITE_PNG_COMPRESSION, 1] if png else [cv2.IMWRITE_JPEG_QUALITY, 95]
    done, data = cv2.imencode(path.suffix, np.ascontiguousarray(pixels), quality)
    if not done:
        msg = f"{path}: OpenCV cannot encode {path.suffix}"
        raise InputError(msg)
    path.write_bytes(data.tobytes())
