"""Where completed depth is written and read again: `OUT/{depth,confidence,sigma}/NAME.png`.

`OUT/run.json` tells how it was made. Every file is whole or not there, and a frame counts as done
when all its files are there, so that an interrupted run can go on.
Not here: the format of the PNGs (`depth_png.py`).
"""

from __future__ import annotations

import contextlib
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data import DenseDepth, Float32Array
from ..errors import InputError
from .depth_png import (
    read_confidence_png,
    read_depth_png,
    read_sigma_png,
    write_confidence_png,
    write_depth_png,
    write_sigma_png,
)
from .whole_file import read_text, unwritable, write_whole


class ResultWriter:
    """Write completed frames one by one; use it in a `with` block, whose end writes `run.json`."""

    def __init__(
        self,
        path: str | Path,
        names: Iterable[str],
        *,
        settings: Mapping[str, Any] | None = None,
        with_sigma: bool = False,
        resume: bool = False,
    ) -> None:
        """Prepare the folder.

        Without `resume`, depth maps of these names from an earlier run are removed first: else an
        interrupted run would leave a mixture of both.

        Args:
            path: folder OUT; made if it is not there.
            names: names of all frames of the run.
            settings: what the run was asked for, for `run.json`; a resumed run must be asked for
                the same.
            with_sigma: write sigma as well.
            resume: keep what is done.

        Raises:
            InputError: the folder cannot be written, or holds results of other settings.
        """
        self.path = Path(path)
        self.with_sigma = with_sigma
        self._names: Sequence[str] = tuple(names)
        for name in self._names:
            _check_name(self.path, name)
        # Through JSON, so that tuples compare equal to what is read back.
        self._settings = json.loads(json.dumps(dict(settings or {}), default=str))
        self._frames: dict[str, Any] = {}
        if resume:
            self._take_over()
        else:
            self._clear()
        self._write_run(finished=False)

    @property
    def done(self) -> set[str]:
        """Names whose files are all there."""
        return {name for name in self._names if self._is_done(name)}

    def write(self, name: str, dense: DenseDepth) -> None:
        """Write one frame.

        Raises:
            InputError: a file cannot be written; the frame does not count as done then.
        """
        write_confidence_png(self.path / "confidence" / f"{name}.png", dense.confidence)
        if self.with_sigma:
            write_sigma_png(self.path / "sigma" / f"{name}.png", dense.sigma)
        # The depth comes last: where it is, the others are.
        write_depth_png(self.path / "depth" / f"{name}.png", dense.depth)
        timings = {stage: round(float(t), 6) for stage, t in dense.timings.items()}
        self._frames[name] = {"stamp": int(dense.stamp), "timings": timings}

    def fail(self, name: str, reason: str) -> None:
        """Note that a frame could not be completed, for `run.json`."""
        self._frames[name] = {"error": reason}

    def close(self, *, finished: bool = True) -> None:
        """Write `run.json`.

        Args:
            finished: False if the run was interrupted.

        Raises:
            InputError: it cannot be written.
        """
        self._write_run(finished=finished)

    def __enter__(self) -> ResultWriter:
        """Use the writer in a `with` block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write `run.json`; after an error, as well as that still goes."""
        if kind is None:
            self.close()
            return
        with contextlib.suppress(InputError):
            self.close(finished=False)

    def _is_done(self, name: str) -> bool:
        kinds = ("depth", "confidence", *(("sigma",) if self.with_sigma else ()))
        return all((self.path / kind / f"{name}.png").is_file() for kind in kinds)

    def _take_over(self) -> None:
        run = _read_run(self.path)
        before = run.get("settings")
        if before is not None and self._settings and before != self._settings:
            differing = [key for key in self._settings if before.get(key) != self._settings[key]]
            differing += [key for key in before if key not in self._settings]
            key = differing[0]
            msg = (
                f"{self.path}: was made with {key} {before.get(key)!r}, found "
                f"{self._settings.get(key)!r} now; resume with the same settings or write to "
                "another folder"
            )
            raise InputError(msg)
        frames = run.get("frames", {})
        self._frames = {n: f for n, f in frames.items() if n in self._names and self._is_done(n)}

    def _clear(self) -> None:
        for name in self._names:
            path = self.path / "depth" / f"{name}.png"
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise unwritable(path, error) from error

    def _write_run(self, *, finished: bool) -> None:
        failed = [name for name, frame in self._frames.items() if "error" in frame]
        run = {
            "finished": finished,
            "settings": self._settings,
            "versions": _versions(),
            "frames_asked": len(self._names),
            "failed": failed,
            "frames": {name: self._frames[name] for name in sorted(self._frames)},
        }
        write_whole(self.path / "run.json", (json.dumps(run, indent=1) + "\n").encode())


class ResultReader:
    """Read what a `ResultWriter` wrote, or any folder of KITTI depth PNGs."""

    def __init__(self, path: str | Path) -> None:
        """Look through the folder; files are read later.

        Args:
            path: folder OUT, or a folder that holds `NAME.png` depth maps itself.

        Raises:
            InputError: there is no depth map.
        """
        self.path = Path(path)
        if not self.path.is_dir():
            msg = f"{self.path}: no such folder; expected depth/NAME.png in it"
            raise InputError(msg)
        has_parts = (self.path / "depth").is_dir()
        self._depth = self.path / "depth" if has_parts else self.path
        self.names: Sequence[str] = tuple(
            sorted(p.stem for p in self._depth.glob("*.png") if not p.name.startswith("."))
        )
        if not self.names:
            msg = f"{self.path}: found neither depth/*.png nor *.png; expected results to read"
            raise InputError(msg)

    @property
    def run(self) -> dict[str, Any]:
        """What `run.json` holds; empty if there is none."""
        return _read_run(self.path)

    def depth(self, name: str) -> Float32Array:
        """Read a depth map: (H, W) float32 metres, 0 = none.

        Raises:
            InputError: it is missing or damaged.
        """
        return read_depth_png(self._depth / f"{name}.png")

    def confidence(self, name: str) -> Float32Array | None:
        """Read a confidence map: (H, W) float32 in [0, 1]; None if there is none.

        Raises:
            InputError: it is damaged.
        """
        path = self.path / "confidence" / f"{name}.png"
        return read_confidence_png(path) if path.is_file() else None

    def sigma(self, name: str) -> Float32Array | None:
        """Read a sigma map: (H, W) float32 metres, +inf = no estimate; None if there is none.

        Raises:
            InputError: it is damaged.
        """
        path = self.path / "sigma" / f"{name}.png"
        return read_sigma_png(path) if path.is_file() else None


def _check_name(path: Path, name: str) -> None:
    if not name or name in (".", "..") or Path(name).name != name:
        msg = f"{path}: found the frame name {name!r}, expected a plain file name"
        raise InputError(msg)


def _read_run(path: Path) -> dict[str, Any]:
    file = path / "run.json"
    if not file.is_file():
        return {}
    try:
        run = json.loads(read_text(file))
    except ValueError as error:
        msg = f"{file}: found no valid JSON ({error}); remove it to go on without it"
        raise InputError(msg) from error
    return run if isinstance(run, dict) else {}


def _versions() -> dict[str, str]:
    import cv2
    import numpy as np

    from ..share import __version__

    return {
        "depth_completion": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }
