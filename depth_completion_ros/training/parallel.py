"""Several processes that train one network, started by `torchrun`.

Every process computes its part of each batch; losses, normalisation and gradients are those of
the whole batch, so that the number of processes changes nothing but the speed.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import InputError


class Processes:
    """This process among those of one run.

    Attributes:
        rank: number of this process; process 0 writes files.
        count: of processes.
        local_rank: number on this machine, which is the number of its GPU.
    """

    def __init__(self, rank: int = 0, count: int = 1, local_rank: int = 0) -> None:
        """Describe one process; `join` finds the numbers."""
        self.rank, self.count, self.local_rank = rank, count, local_rank

    @classmethod
    def join(cls, device: str) -> Processes:
        """Meet the others that `torchrun` started; without it this process is alone.

        Args:
            device: `auto`, `cpu` or `cuda`; GPUs talk by NCCL, CPUs by Gloo.
        """
        if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
            return cls()
        on_gpu = device != "cpu" and torch.cuda.is_available()
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if on_gpu:
            torch.cuda.set_device(local)
        dist.init_process_group("nccl" if on_gpu else "gloo")
        return cls(dist.get_rank(), dist.get_world_size(), local)

    def leave(self) -> None:
        """Part from the others."""
        if self.count > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def part_of(self, batch: int) -> int:
        """Tell how many samples of a batch are this process's.

        Raises:
            InputError: the batch cannot be divided.
        """
        if batch % self.count:
            msg = f"batch: found {batch}, expected a multiple of the {self.count} processes"
            raise InputError(msg)
        return batch // self.count

    def share(self, number: Tensor) -> Tensor:
        """Add a number up over all processes and divide it by how many there are."""
        if self.count == 1:
            return number
        total = number.detach().clone()
        dist.all_reduce(total)
        return total / self.count

    def mean(self, number: float) -> float:
        """Average a number over all processes."""
        return float(self.share(torch.tensor(number, dtype=torch.float64)))

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            dist.barrier()

    def joined(self, network: nn.Module, *, skips_parts: bool) -> nn.Module:
        """Make gradients those of the whole batch.

        Args:
            network: on this process's device.
            skips_parts: True if a forward pass may leave parameters out.
        """
        if self.count == 1:
            return network
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.__class__ = SharedBatchNorm2d
        devices: Any = [self.local_rank] if next(network.parameters()).is_cuda else None
        return nn.parallel.DistributedDataParallel(
            network, device_ids=devices, find_unused_parameters=skips_parts
        )


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Normalise by mean and variance of the batches of all processes, on any device.

    torch's own SyncBatchNorm needs a GPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W), this process's part."""
        if not self.training or not dist.is_initialized():
            return super().forward(x)
        values = x.float()
        count = values.new_tensor([values.numel() / values.shape[1]])
        sums = torch.cat((values.sum((0, 2, 3)), values.square().sum((0, 2, 3)), count))
        sums = _SumOverProcesses.apply(sums)  # type: ignore[no-untyped-call]
        channels = values.shape[1]
        count = sums[-1]
        mean = sums[:channels] / count
        variance = (sums[channels:-1] / count - mean.square()).clamp(min=0)
        if self.track_running_stats:
            self._remember(mean.detach(), (variance * count / (count - 1)).detach())
        normalised = (values - mean[:, None, None]) / torch.sqrt(
            variance[:, None, None] + self.eps
        )
        if self.affine:
            normalised = normalised * self.weight[:, None, None] + self.bias[:, None, None]
        result: Tensor = normalised.to(x.dtype)
        return result

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


class _SumOverProcesses(torch.autograd.Function):
    """Add up over all processes; so are the gradients."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        total = x.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total
