"""Keep a frame on the device: projection, see-through filter and network without the host.

Raw image and points go up once, from pinned buffers; maps come down once. On CUDA everything
between is one recorded graph per size, and nothing is allocated for a frame of a known size. The
functions run on the CPU as well, for the tests that hold them equal to `geometry/projection.py`
and `geometry/occlusion.py`, which are the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data import Float64Array, Frame, PinholeCamera
from ..errors import BackendError
from ..geometry.camera import largest_radius, normalised_pixels
from ..geometry.occlusion import (
    BEHIND,
    CELLS,
    DISTANCE,
    FIRST_OF_DIRECTION,
    cells_of_pixels,
    plan_search,
)
from ..networks.padding import Padding
from ..settings import ProjectionSettings

# Points a buffer holds at first, and by which it grows: more than any one LiDAR's scan.
_CAPACITY = 131072
# Points beside the image are thrown into this many slots; one alone would be queued for.
_BINS = 1024
_INFINITE_BITS = 0x7F800000  # of float32
_PLANS = 4  # sizes that are kept ready

# Where the numbers of a frame stand among its parameters, float64.
_ROTATION = slice(0, 9)
_TRANSLATION = slice(9, 12)
_INTRINSICS = slice(12, 17)  # fx, skew, cx + 0.5, fy, cy + 0.5
_LIMITS = slice(17, 19)
_COUNT, _PARALLAX, _SQUARED_RADIUS = 19, 20, 21
_COEFFICIENTS = slice(22, 36)
_TILT = slice(36, 45)
_PARAMETERS = 45


class Lens(NamedTuple):
    """Say which operations bend the rays: they are part of a recorded graph."""

    is_distorted: bool
    is_fisheye: bool
    is_tilted: bool

    @classmethod
    def of(cls, camera: PinholeCamera) -> Lens:
        """Tell what the lens of a camera needs."""
        is_fisheye = camera.distortion_model == "equidistant"
        return cls(camera.is_distorted, is_fisheye, bool(np.any(camera.D[12:14] != 0)))


def frame_parameters(
    camera: PinholeCamera,
    T_camera_lidar: Float64Array | None,
    settings: ProjectionSettings,
    count: int,
) -> Float64Array:
    """Gather the numbers of a frame that may change without a new graph.

    Args:
        camera: pinhole model.
        T_camera_lidar: (4, 4) rigid, or None for a frame with a sparse map.
        settings: depth limits and see-through filter.
        count: points of the frame.

    Returns:
        (45,) float64, what `project_on_device` and `filter_on_device` take.
    """
    numbers = np.zeros(_PARAMETERS)
    K = camera.K
    if T_camera_lidar is not None:
        numbers[_ROTATION] = T_camera_lidar[:3, :3].ravel()
        numbers[_TRANSLATION] = T_camera_lidar[:3, 3] + camera.shift
    numbers[_INTRINSICS] = (K[0, 0], K[0, 1], K[0, 2] + 0.5, K[1, 1], K[1, 2] + 0.5)
    numbers[_LIMITS] = (settings.min_depth, settings.max_depth)
    numbers[_COUNT] = count
    if settings.occlusion_filter.enabled:
        search = plan_search(camera, settings.occlusion_filter, T_camera_lidar)
        numbers[_PARALLAX] = search.parallax
    if camera.is_distorted:
        numbers[_SQUARED_RADIUS] = largest_radius(camera) ** 2
        numbers[_COEFFICIENTS][: len(camera.D)] = camera.D
        numbers[_TILT] = _tilt_matrix(*numbers[_COEFFICIENTS][12:]).ravel()
    return numbers


def project_on_device(
    points: Tensor, parameters: Tensor, height: int, width: int, lens: Lens
) -> Tensor:
    """Render points to sparse depth as `geometry.projection.project_points` does.

    Equal to it but for the order of float64 operations (and the arctangent of a fisheye): a depth
    may differ in the last place of float32, and a point within 1e-9 pixels of the line between
    two may fall on the other, once in millions of points.

    Args:
        points: (N, 3) float32 metres, LiDAR frame; those after the frame's count are ignored.
        parameters: (45,) float64, from `frame_parameters`.
        height, width: of the image in pixels.
        lens: of the camera.

    Returns:
        (H, W) float32 metres along z, 0 where no point fell.
    """
    p = points.double().unbind(1)
    R, t = parameters[_ROTATION], parameters[_TRANSLATION]
    x, y, z = (
        p[0] * R[3 * i] + p[1] * R[3 * i + 1] + p[2] * R[3 * i + 2] + t[i] for i in range(3)
    )
    x, y = x / z, y / z
    if lens.is_distorted:
        x, y = _distort(x, y, parameters, lens)
    fx, skew, cx, fy, cy = parameters[_INTRINSICS].unbind()
    u = torch.floor(x * fx + cx + y * skew)
    v = torch.floor(y * fy + cy)
    low, high = parameters[_LIMITS].unbind()
    order = torch.arange(len(points), device=points.device)
    keep = (order < parameters[_COUNT]) & (z >= low) & (z <= high) & (z > 0)
    keep &= (u >= 0) & (u < width) & (v >= 0) & (v < height)
    place = torch.where(keep, v * width + u, 0.0).long()
    index = torch.where(keep, place, height * width + order % _BINS)
    nearest = _scatter_nearest(index, z.float(), height * width + _BINS)[: height * width]
    return torch.where(nearest < torch.inf, nearest, 0.0).view(height, width)


def filter_on_device(
    sparse: Tensor, parameters: Tensor, cell: Tensor, rows: int, columns: int
) -> Tensor:
    """Copy sparse depth without what the camera cannot see, as `filter_sparse` does, bit by bit.

    Args:
        sparse: (H, W) float32 metres, 0 = none.
        parameters: (45,) float64, from `frame_parameters`.
        cell: (H * W,) int64, from `cells_of_pixels`.
        rows, columns: of the cells.

    Returns:
        (H, W) float32 metres, 0 = none.
    """
    z = sparse.flatten()
    # As tensors, not numbers: CUDA would multiply by the reciprocal of a number instead.
    ratio = z / parameters[_PARALLAX].float()
    nearest = _scatter_nearest(cell, torch.where(z > 0, z, torch.inf), rows * columns)
    factors = {
        distance: (ratio * distance + 1).clamp(min=float(BEHIND))
        for distance in set(DISTANCE.tolist())
    }
    toward = []
    ends = [*FIRST_OF_DIRECTION[1:], len(CELLS)]
    for first, end in zip(FIRST_OF_DIRECTION, ends, strict=True):
        is_nearer = torch.zeros_like(z, dtype=torch.bool)
        for (row, column), distance in zip(
            CELLS[first:end].tolist(), DISTANCE[first:end].tolist(), strict=True
        ):
            near = nearest.index_select(0, cell + (row * columns + column))
            is_nearer |= near * factors[distance] <= z
        toward.append(is_nearer)
    hidden = torch.zeros_like(z, dtype=torch.bool)
    for i, is_nearer in enumerate(toward):
        # Directions 180 and 135 degrees apart; i - 3 is the other one at 135.
        hidden |= is_nearer & (toward[(i + 4) % 8] | toward[(i + 5) % 8])
    return torch.where(hidden, 0.0, z).view(sparse.shape)


def _scatter_nearest(index: Tensor, depth: Tensor, size: int) -> Tensor:
    """Give the least positive depth at each index, inf where there is none.

    Positive floats are in the order of their bits, and the least integer is one instruction.
    """
    bits = torch.full((size,), _INFINITE_BITS, dtype=torch.int32, device=depth.device)
    bits.scatter_reduce_(0, index, depth.view(torch.int32), "amin")
    return bits.view(torch.float32)


def _distort(x: Tensor, y: Tensor, parameters: Tensor, lens: Lens) -> tuple[Tensor, Tensor]:
    """Do what `geometry.camera.distort_normalised` does."""
    r2 = x * x + y * y
    believed = r2 <= parameters[_SQUARED_RADIUS]
    k = parameters[_COEFFICIENTS].unbind()
    if lens.is_fisheye:
        r = torch.sqrt(r2)
        theta = torch.atan(r)
        t2 = theta * theta
        bent = theta * (1 + t2 * (k[0] + t2 * (k[1] + t2 * (k[2] + t2 * k[3]))))
        scale = torch.where(r > 1e-9, bent / r, 1.0)
        xd, yd = x * scale, y * scale
    else:
        k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4, _, _ = k
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        radial = radial / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
        xd = x * radial + p1 * 2 * x * y + p2 * (r2 + x * 2 * x) + r2 * (s1 + r2 * s2)
        yd = y * radial + p1 * (r2 + y * 2 * y) + p2 * 2 * x * y + r2 * (s3 + r2 * s4)
    if lens.is_tilted:
        M = parameters[_TILT].unbind()
        xd, yd, zd = (xd * M[3 * i] + yd * M[3 * i + 1] + M[3 * i + 2] for i in range(3))
        xd, yd = xd / zd, yd / zd
    return torch.where(believed, xd, torch.nan), torch.where(believed, yd, torch.nan)


def _tilt_matrix(tau_x: float, tau_y: float) -> Float64Array:
    """Give the projection of OpenCV's tilted sensor, (3, 3)."""
    cx, sx, cy, sy = np.cos(tau_x), np.sin(tau_x), np.cos(tau_y), np.sin(tau_y)
    R = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    R = R @ np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    P = np.array([[R[2, 2], 0, -R[0, 2]], [0, R[2, 2], -R[1, 2]], [0, 0, 1]])
    matrix: Float64Array = P @ R
    return matrix


class StagedTensor:
    """A tensor on the device and the pinned buffer it is filled from or read into."""

    def __init__(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> None:
        """Allocate both; on the CPU they are one."""
        is_cuda = device.type == "cuda"
        self.host = torch.zeros(tuple(shape), dtype=dtype, pin_memory=is_cuda)
        self.device = torch.zeros_like(self.host, device=device) if is_cuda else self.host

    def upload(self, array: np.ndarray[Any, Any]) -> None:
        """Fill the first rows from an array; the copy to the device is not waited for."""
        count = len(array)
        np.copyto(self.host.numpy()[:count], array)
        if self.device is not self.host:
            self.device[:count].copy_(self.host[:count], non_blocking=True)

    def download(self, tensor: Tensor) -> None:
        """Copy a tensor to the host; the copy is not waited for."""
        self.host.copy_(tensor, non_blocking=True)


class RecordedFunction:
    """Call a function of tensors that stay where they are; on CUDA, by one recorded graph."""

    def __init__(self, function: Callable[[], dict[str, Tensor]], device: torch.device) -> None:
        """Run the function a few times, so that it allocates and compiles, and record it."""
        self._function = function
        self._graph: Any = None
        if device.type != "cuda":
            return
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(3):
                function()
        torch.cuda.current_stream(device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = function()

    def __call__(self) -> dict[str, Tensor]:
        """Compute the outputs; on CUDA they are the same tensors each time."""
        if self._graph is None:
            return self._function()
        self._graph.replay()
        return self._outputs


class Size(NamedTuple):
    """Say what a plan was made for; another frame may use it if all of it agrees."""

    height: int
    width: int
    rows: int
    columns: int
    cells_per_pixel: float
    capacity: int  # points; 0 where frames bring a sparse map
    lens: Lens


class ResidentPipeline:
    """Run frames through a network on one device; serves one thread.

    Networks that start from a fill are refused unless they are given one that runs on the device.
    """

    def __init__(
        self,
        graph: Callable[..., tuple[Tensor, ...]],
        inputs: Sequence[str],
        outputs: Sequence[str],
        *,
        multiple: int,
        device: torch.device,
        precision: str = "fp32",
        fill: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Take over a network that is on the device already.

        Args:
            graph: such as `networks.export.Graph`, takes `inputs` and gives `outputs`.
            inputs, outputs: names as in `networks.model_file`; outputs are of the padded size.
            multiple: height and width are padded to a multiple of it.
            device: of the network.
            precision: `fp32`, `fp16` or `bf16`; positions and depths stay in fp32.
            fill: makes the input `prefilled` of a sparse map, both (1, 1, H, W) metres.

        Raises:
            BackendError: the network needs a fill and there is none.
        """
        if "prefilled" in inputs and fill is None:
            msg = "resident: the network starts from a fill, which is made on the host; use torch"
            raise BackendError(msg)
        self._graph, self._fill = graph, fill
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)
        self._multiple, self._device = multiple, device
        kinds = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
        self._kind = kinds[precision]
        self._plans: dict[Size, _Plan] = {}

    def run(self, frame: Frame, settings: ProjectionSettings) -> dict[str, np.ndarray[Any, Any]]:
        """Project, filter and complete a frame.

        Args:
            frame: with points or a sparse map.
            settings: depth limits and see-through filter.

        Returns:
            (H, W) float32 by name: the outputs and `sparse`. They are buffers that the next frame
            overwrites.
        """
        plan = self._plan_for(frame, settings)
        with torch.inference_mode():
            plan.upload(frame, settings)
            outputs = plan.compute()
            for name, output in outputs.items():
                plan.downloads[name].download(output)
            if self._device.type == "cuda":
                torch.cuda.current_stream(self._device).synchronize()
        return {name: staged.host.numpy() for name, staged in plan.downloads.items()}

    def _plan_for(self, frame: Frame, settings: ProjectionSettings) -> _Plan:
        search = plan_search(frame.camera, settings.occlusion_filter, frame.T_camera_lidar)
        count = 0 if frame.points is None else max(len(frame.points), 1)
        size = Size(
            frame.camera.height,
            frame.camera.width,
            search.rows,
            search.columns,
            float(search.cells_per_pixel),
            -(-count // _CAPACITY) * _CAPACITY,
            Lens.of(frame.camera),
        )
        plan = self._plans.pop(size, None)
        if plan is None:
            while len(self._plans) >= _PLANS:
                self._plans.pop(next(iter(self._plans)))  # the one not used for longest
            pixel = np.arange(size.height * size.width)
            cell = torch.from_numpy(cells_of_pixels(pixel, frame.camera, search))
            plan = _Plan(self._work, size, cell, self._inputs, self._multiple, self._device)
            with torch.inference_mode():
                plan.upload(frame, settings)
                plan.record(self._outputs)
        self._plans[size] = plan
        return plan

    def _work(self, plan: _Plan) -> dict[str, Tensor]:
        """Do all of a frame's work on the device."""
        size, staged = plan.size, plan.uploads
        parameters = staged["parameters"].device
        if size.capacity:
            points = staged["points"].device
            sparse = project_on_device(points, parameters, size.height, size.width, size.lens)
        else:
            given = staged["sparse"].device
            low, high = parameters[_LIMITS].float().unbind()
            sparse = torch.where((given >= low) & (given <= high), given, 0.0)
        sparse = filter_on_device(sparse, parameters, plan.cell, size.rows, size.columns)
        arrays = {name: staged[name].device for name in self._inputs if name in staged}
        arrays["sparse"] = plan.padding.extend_sparse(sparse[None, None])
        if self._fill is not None:
            arrays["prefilled"] = self._fill(arrays["sparse"])
        enabled = self._kind != torch.float32
        with torch.autocast(self._device.type, self._kind, enabled=enabled):
            results = self._graph(*(arrays[name] for name in self._inputs))
        outputs = {"sparse": sparse}
        for name, result in zip(self._outputs, results, strict=True):
            outputs[name] = plan.padding.crop(result.float())[0, 0]
        return outputs


class _Plan:
    """Hold the buffers and the recorded graph of one size."""

    def __init__(
        self,
        work: Callable[[_Plan], dict[str, Tensor]],
        size: Size,
        cell: Tensor,
        inputs: Sequence[str],
        multiple: int,
        device: torch.device,
    ) -> None:
        self.size = size
        self.padding = Padding.to_multiple(size.height, size.width, multiple)
        self.cell = cell.to(device)
        self.downloads: dict[str, StagedTensor] = {}
        self._work, self._device = work, device
        self._camera: PinholeCamera | None = None
        height = size.height + self.padding.top
        width = size.width + self.padding.left + self.padding.right
        shapes: Mapping[str, tuple[tuple[int, ...], torch.dtype]] = {
            "parameters": ((_PARAMETERS,), torch.float64),
            "points": ((size.capacity, 3), torch.float32),
            "sparse": ((size.height, size.width), torch.float32),
            "image": ((1, height, width, 3), torch.uint8),
            "rays": ((1, 2, height, width), torch.float32),
        }
        source = "points" if size.capacity else "sparse"
        names = ["parameters", source, *(name for name in ("image", "rays") if name in inputs)]
        self.uploads = {name: StagedTensor(*shapes[name], device) for name in names}

    def upload(self, frame: Frame, settings: ProjectionSettings) -> None:
        """Bring a frame to the device."""
        staged, camera = self.uploads, frame.camera
        count = 0 if frame.points is None else len(frame.points)
        parameters = frame_parameters(camera, frame.T_camera_lidar, settings, count)
        staged["parameters"].upload(parameters)
        if frame.points is not None:
            staged["points"].upload(frame.points[:, :3])
        else:
            assert frame.sparse_depth is not None  # Frame holds exactly one of the two.
            staged["sparse"].upload(frame.sparse_depth)
        if "image" in staged:
            staged["image"].upload(self.padding.extend_array(frame.image)[None])
        if "rays" in staged and self._camera != camera:
            rays = np.nan_to_num(normalised_pixels(camera))
            planes = [self.padding.extend_array(rays[..., i]) for i in range(2)]
            staged["rays"].upload(np.stack(planes)[None])
        self._camera = camera

    def record(self, outputs: Sequence[str]) -> None:
        """Make the graph, from what was uploaded, and the buffers of what it gives."""
        self.compute = RecordedFunction(lambda: self._work(self), self._device)
        shape = (self.size.height, self.size.width)
        for name in ("sparse", *outputs):
            self.downloads[name] = StagedTensor(shape, torch.float32, self._device)
