"""The processes of one run: torchrun's environment in, this process's place and device out.

One process alone is a run, too; everything here then does nothing.
"""

import atexit
import logging
import os
import warnings
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

from cropseg_edge.errors import ConfigError


@dataclass(frozen=True)
class Workers:
    """This process among those of the run: its number, how many there are, where it computes."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over the processes, in place."""
        if self.world > 1:
            dist.all_reduce(value)
            value /= self.world
        return value

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any of the processes; returns once all have called this."""
        if self.world == 1:
            return flag
        return bool(self.mean(torch.tensor(float(flag), device=self.device)))

    def average_buffers(self, model: nn.Module) -> None:
        """Give every process the mean of the batch norms' statistics."""
        buffers = [b for b in model.buffers() if b.is_floating_point()]
        if self.world == 1 or not buffers:
            return
        flat = self.mean(torch.cat([b.flatten() for b in buffers]))
        for buffer, piece in zip(buffers, flat.split([b.numel() for b in buffers]), strict=True):
            buffer.copy_(piece.view_as(buffer))


ALONE = Workers(0, 1, torch.device("cpu"))


def join(device: str = "auto") -> Workers:
    """Take this process's place: alone, or as torchrun's environment says (gloo on a CPU, nccl on
    GPUs). May be called again.

    Args:
        device: auto (a GPU where there is one), cpu or cuda.

    Raises:
        ConfigError: cuda is asked for and not there.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is cuda, but torch sees no GPU here; use device: auto or cpu")
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    local = int(os.environ.get("LOCAL_RANK", 0))
    if cuda and local >= torch.cuda.device_count():
        raise ConfigError(
            f"process {local} has no GPU: there are {torch.cuda.device_count()} here; start "
            "torchrun with --nproc-per-node of at most that"
        )
    place = torch.device("cuda", local) if cuda else torch.device("cpu")
    if "WORLD_SIZE" not in os.environ:
        return Workers(0, 1, place)
    if not dist.is_initialized():
        if cuda:
            torch.cuda.set_device(place)
        dist.init_process_group("nccl" if cuda else "gloo")
        atexit.register(leave)
        if dist.get_rank():
            logging.getLogger("training").setLevel(logging.WARNING)
    return Workers(dist.get_rank(), dist.get_world_size(), place)


def first_process() -> bool:
    """Whether this is torchrun's first process, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def leave() -> None:
    """Close the connections that `join` opened, if any."""
    if dist.is_initialized():
        dist.destroy_process_group()


class Called(nn.Module):
    """A network whose methods are all called through `forward`, where DDP sees them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, method: str, *inputs: Tensor) -> Any:
        """What `model.method(*inputs)` gives."""
        return self.model(*inputs) if method == "forward" else getattr(self.model, method)(*inputs)


def replicate(model: nn.Module, workers: Workers) -> nn.Module:
    """DistributedDataParallel around `Called`; the bare `Called` where nothing is to be exchanged.

    Buffers are left to `Workers.average_buffers`: DDP would overwrite them between the forward
    passes of one step.
    """
    called = Called(model)
    if workers.world == 1 or sharded(next(model.parameters())):
        return called
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # newer torch renames the option
        return nn.parallel.DistributedDataParallel(
            called,
            device_ids=[workers.device] if workers.device.type == "cuda" else None,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
        )


def shard(model: nn.Module) -> None:
    """FSDP in place: each process keeps a part of every weight; blocks are gathered one by one.

    Raises:
        ConfigError: the process was not started by torchrun.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    if not dist.is_initialized():
        raise ConfigError("parallel: fsdp needs processes; start with torchrun -m training train")
    for block in model.backbone.vit.blocks:
        fully_shard(block)
    fully_shard(model)
    register_fsdp_forward_method(model, "predict")


def sharded(tensor: Any) -> bool:
    """Whether this is a tensor that FSDP spread over processes (a DTensor: slow to import)."""
    return isinstance(tensor, Tensor) and hasattr(tensor, "full_tensor")


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    return tensor.to_local() if sharded(tensor) else tensor


def whole(tree: Any) -> Any:
    """A tree of tensors with the sharded ones gathered on the CPU; every process must call it."""
    return tree_map(lambda x: x.full_tensor().cpu() if sharded(x) else x, tree)


def sharded_like(value: Tensor, target: Tensor) -> Tensor:
    """A whole tensor laid out over the processes as `target` is."""
    if not sharded(target):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(target.device), target.device_mesh, target.placements)


def fill(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy whole weights into a network, sharded or not; RuntimeError names keys that differ."""
    own = model.state_dict()
    model.load_state_dict(
        {k: sharded_like(v, own[k]) if k in own else v for k, v in weights.items()}
    )


def fill_optimiser(optimiser: Optimizer, state: dict[str, Any]) -> None:
    """Give an optimiser, of sharded weights or not, the whole `state_dict()` of another."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    moments = {
        index: {
            key: sharded_like(value, parameters[index]) if value.dim() else value
            for key, value in entry.items()
        }
        for index, entry in state["state"].items()
    }
    optimiser.load_state_dict({**state, "state": moments})
