"""Run networks with torch, on the CPU or a CUDA device.

Not here: the networks (`networks/`). The same graph runs here that is exported for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data import Float32Array
from ..errors import BackendError, ModelFileError
from ..networks.model_file import ModelDescription
from .base import Backend

if TYPE_CHECKING:
    import torch

    from ..networks.network import DepthNetwork

# What runs without surprises; half precision on a CPU is slower than single.
_PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp16", "bf16", "fp32")}
# Only these say that somebody could use CUDA; asking torch costs two seconds.
_NVIDIA_DEVICES = ("/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/nvgpu", "/dev/dxg")


class TorchBackend(Backend):
    """Run a network of the registry with torch."""

    name = "torch"

    def __init__(
        self,
        network: DepthNetwork,
        metadata: Mapping[str, str],
        *,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        """Move the network to a device.

        Args:
            network: with weights; it is put into evaluation mode.
            metadata: of its file: calibration and whatever else is to be kept.
            device: `auto` (CUDA if it works), `cpu`, `cuda` or `cuda:N`.
            precision: `auto` (fp32 on a CPU, fp16 on CUDA), fp32, fp16 or bf16.

        Raises:
            BackendError: the device is missing or cannot run the precision.
        """
        import torch

        from ..networks.export import Graph, graph_metadata

        self._torch = torch
        self._device = _usable_device(device)
        self.device = str(self._device)
        possible = _PRECISIONS[self._device.type]
        self.precision = possible[0] if precision == "auto" else precision
        if self.precision not in possible:
            msg = (
                f"precision: found {precision!r}, but torch runs networks on {self._device.type} "
                f"with {', '.join(possible)} only"
            )
            raise BackendError(msg)
        self._graph = Graph(network).eval().to(self._device)
        described = {**metadata, **graph_metadata(self._graph, size=None)}
        self.model = ModelDescription.from_metadata(Path(described["network"]), described)

    @classmethod
    def open(
        cls, path: Path, network: str | None = None, *, device: str, precision: str
    ) -> TorchBackend:
        """Open a weights file.

        Args:
            path: `.safetensors` of ours, or a published checkpoint of `network` in its default
                form.
            network: name in the registry; needed for published checkpoints alone.
            device, precision: as for the constructor.

        Raises:
            ModelFileError: the file is missing or does not fit.
            BackendError: torch is missing, or as for the constructor.
        """
        require_torch()
        opened, metadata = read_network(path, network)
        return cls(opened, metadata, device=device, precision=precision)

    def _run(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        torch = self._torch
        tensors = [
            torch.from_numpy(arrays[name]).to(self._device, non_blocking=True)
            for name in self.model.inputs
        ]
        kind = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
        try:
            with (
                torch.inference_mode(),
                torch.autocast(
                    self._device.type, kind[self.precision], enabled=self.precision != "fp32"
                ),
            ):
                outputs = self._graph(*tensors)
                values = [output.float().cpu().numpy() for output in outputs]
        except RuntimeError as error:
            first_line = str(error).strip().splitlines()[0]
            msg = f"torch: {self.model.network} failed on {self.device} ({first_line})"
            raise BackendError(msg) from error
        return dict(zip(self.model.outputs, values, strict=True))


def read_network(
    path: Path, network: str | None = None, **settings: Any
) -> tuple[DepthNetwork, dict[str, str]]:
    """Read weights, whatever kind of file they are in.

    Args:
        path: `.safetensors` of ours, or a published checkpoint.
        network: name that is expected; needed for published checkpoints.
        settings: form that a published checkpoint was trained in, where it is not the default.

    Returns:
        The network on the CPU, and the metadata of its file.

    Raises:
        ModelFileError: the file is missing or does not fit.
        InputError: there is no such network or setting.
    """
    if not path.is_file():
        msg = f"{path}: no such file; expected weights"
        raise ModelFileError(msg)
    from ..networks.checkpoint import load_published, open_network
    from ..networks.registry import build_network

    if path.suffix == ".safetensors":
        opened, metadata = open_network(path)
        if network not in (None, metadata["network"]):
            msg = f"{path}: found weights of {metadata['network']}, expected those of {network}"
            raise ModelFileError(msg)
        return opened, metadata
    if network is None:
        msg = f"{path}: a published checkpoint does not say what it is; name the network"
        raise ModelFileError(msg)
    built = build_network(network, **settings)
    load_published(built, path)
    return built.eval(), {}


def require_torch() -> None:
    """Make sure that torch can be imported.

    Raises:
        BackendError: it cannot.
    """
    try:
        import safetensors  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        msg = f"torch: not installed ({error}); pip install depth_completion[torch]"
        raise BackendError(msg) from error


def has_nvidia_device() -> bool:
    """Tell whether it is worth the time to ask torch for CUDA."""
    return any(Path(device).exists() for device in _NVIDIA_DEVICES)


def published_prefill(network: str, settings: dict[str, Any]) -> Callable[..., Float32Array]:
    """Give the fill that a published network starts from, as a function of a sparse map.

    Raises:
        BackendError: torch is missing; the fills come with the networks.
    """
    require_torch()
    import torch

    from ..networks.registry import build_network

    with torch.device("meta"):
        return build_network(network, **settings).prefill


def _usable_device(device: str) -> torch.device:
    import torch

    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (number and not number.isdecimal()):
        msg = f"device: found {device!r}, expected auto, cpu, cuda or cuda:N"
        raise BackendError(msg)
    if kind == "cpu" or (kind == "auto" and not has_nvidia_device()):
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) < count:
        return torch.device("cuda", int(number or 0))
    if kind == "auto":
        return torch.device("cpu")
    msg = f"device: found {device!r}, but torch sees {count} CUDA devices here"
    raise BackendError(msg)
