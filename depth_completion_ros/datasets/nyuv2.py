"""NYUv2 as the usual preprocessed release: HDF5 files with `rgb` and `depth`.

Images are halved to 320x240 and cropped to 304x228, and 500 pixels of the depth are the
measurements, as in the papers on sparse-to-dense depth. The depth itself is the ground truth.
Needs h5py (extra `nyuv2`).

Source: Ma and Karaman, "Sparse-to-Dense", ICRA 2018; intrinsics of the NYUv2 toolbox.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..data import Float32Array, Frame, PinholeCamera, UInt8Array
from ..errors import InputError
from ..geometry.camera import crop_camera, scale_camera
from .base import Dataset

SUFFIXES = (".h5", ".hdf5")
_K = np.array(((518.86, 0, 325.58), (0, 519.47, 253.74), (0, 0, 1)))
_SIZE = (640, 480)
_SHORT_SIDE = 240
_CROP = (304, 228)
_SAMPLES = 500


class NyuV2(Dataset):
    """Indoor frames with dense depth, of which some pixels are given as measurements."""

    kind = "nyuv2"
    has_ground_truth = True

    def __init__(self, path: Path, *, samples: int = _SAMPLES, seed: int = 0) -> None:
        """Look through the files; they are read later.

        Args:
            path: one HDF5 file or a folder of them (at any depth).
            samples: how many pixels of the depth are given.
            seed: which; equal seeds give equal pixels in every run.

        Raises:
            InputError: there is no such file, or h5py is missing.
        """
        _h5py()
        files = [path] if path.is_file() else find_files(path)
        names = [path.stem] if path.is_file() else [_name(path, file) for file in files]
        if not files:
            msg = f"{path}: found no .h5 file in it"
            raise InputError(msg)
        super().__init__(path, names)
        self._files = files
        self._samples, self._seed = samples, seed
        scale = _SHORT_SIDE / _SIZE[1]
        width, height = round(_SIZE[0] * scale), _SHORT_SIDE
        camera = scale_camera(PinholeCamera(*_SIZE, _K), width, height)
        self._left, self._top = (width - _CROP[0]) // 2, (height - _CROP[1]) // 2
        self._camera = crop_camera(camera, self._left, self._top, *_CROP)

    def ground_truth(self, index: int) -> Float32Array | None:
        """Give the whole depth of the cropped image; see `Dataset.ground_truth`."""
        return self._prepared(self._files[self._checked_index(index)])[1]

    def _read_frame(self, index: int) -> Frame:
        image, depth = self._prepared(self._files[index])
        known = np.flatnonzero(depth)
        count = min(self._samples, len(known))
        chosen = np.random.default_rng((self._seed, index)).choice(known, count, replace=False)
        sparse = np.zeros_like(depth)
        sparse.flat[chosen] = depth.flat[chosen]
        return Frame(
            image=image,
            camera=self._camera,
            sparse_depth=sparse,
            stamp=int(self.times[index]),
            name=self.names[index],
        )

    def _prepared(self, path: Path) -> tuple[UInt8Array, Float32Array]:
        """Read, halve and crop one file: image bilinear, depth nearest."""
        import cv2

        image, depth = _read_file(path)
        size = (self._camera.width + 2 * self._left, self._camera.height + 2 * self._top)
        rows = _nearest(_SIZE[1], size[1])
        columns = _nearest(_SIZE[0], size[0])
        small = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        part = np.s_[self._top : self._top + _CROP[1], self._left : self._left + _CROP[0]]
        return (
            np.ascontiguousarray(small[part]),
            np.ascontiguousarray(depth[np.ix_(rows, columns)][part]),
        )


def find_files(path: Path) -> list[Path]:
    """List the HDF5 files below a folder, in order."""
    return sorted(p for suffix in SUFFIXES for p in path.rglob(f"*{suffix}") if p.is_file())


def _name(folder: Path, file: Path) -> str:
    return "_".join(file.relative_to(folder).with_suffix("").parts)


def _nearest(before: int, after: int) -> Any:
    """Choose the sample under the centre of each pixel after resizing."""
    return np.floor((np.arange(after) + 0.5) * before / after).astype(np.intp)


def _read_file(path: Path) -> tuple[UInt8Array, Float32Array]:
    h5py = _h5py()
    try:
        with h5py.File(path, "r") as file:
            missing = [name for name in ("rgb", "depth") if name not in file]
            if missing:
                found = ", ".join(file) or "nothing"
                msg = f"{path}: found {found}; expected rgb and depth"
                raise InputError(msg)
            rgb, depth = np.asarray(file["rgb"]), np.asarray(file["depth"])
    except (OSError, RuntimeError, KeyError) as error:
        msg = f"{path}: cannot be read as HDF5 ({error})"
        raise InputError(msg) from error
    width, height = _SIZE
    if rgb.shape != (3, height, width) or rgb.dtype != np.uint8 or depth.shape != (height, width):
        msg = (
            f"{path}: found rgb {rgb.shape} {rgb.dtype} and depth {depth.shape}, expected "
            f"(3, {height}, {width}) uint8 and ({height}, {width})"
        )
        raise InputError(msg)
    metres = np.nan_to_num(depth.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    return np.ascontiguousarray(rgb.transpose(1, 2, 0)), np.maximum(metres, 0)


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        msg = "NYUv2: h5py is not installed; run pip install 'depth_completion[nyuv2]'"
        raise InputError(msg) from error
    return h5py
