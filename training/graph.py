"""A training step recorded once as a CUDA graph and then replayed, for networks so small that
starting their kernels takes longer than running them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

WARM_UP = 3  # steps before the recording, so that libraries have chosen their algorithms


class StepGraph:
    """Calls are optimiser steps. The first few run as they are, then one is recorded.

    A gradient that is not finite changes nothing: the optimiser's own kernel looks.

    Args:
        gradients: batch to the loss and the norm of the gradient, both [], without waiting for the
            device. Batches must keep their shapes.
        optimiser: a fused AdamW.
    """

    def __init__(
        self, gradients: Callable[[Any], tuple[Tensor, Tensor]], optimiser: torch.optim.AdamW
    ) -> None:
        self.gradients, self.optimiser = gradients, optimiser
        self.calls = 0
        self.stream = torch.cuda.Stream()

    def __call__(self, batch: Any) -> Tensor:
        """The loss [] of a step on `batch`, whose tensors may be anywhere."""
        if self.calls == 0:
            for group in self.optimiser.param_groups:
                group["lr"] = torch.tensor(float(group["lr"]), device="cuda")
                group["capturable"] = True
        self.calls += 1
        if self.calls <= WARM_UP:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                loss = self._step(batch)
            torch.cuda.current_stream().wait_stream(self.stream)
            return loss
        if self.calls == WARM_UP + 1:
            self.batch = tree_map(lambda value: value.to("cuda", copy=True), batch)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.loss = self._step(self.batch)
        for own, new in zip(tree_leaves(self.batch), tree_leaves(batch), strict=True):
            own.copy_(new, non_blocking=True)
        self.graph.replay()
        return self.loss.clone()

    def _step(self, batch: Any) -> Tensor:
        loss, norm = self.gradients(batch)
        self.optimiser.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]
        self.optimiser.step()
        return loss


def plain(optimiser: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's state as if it had never been part of a graph: rates are numbers."""
    groups = [
        group | {"lr": float(group["lr"]), "capturable": False}
        for group in optimiser["param_groups"]
    ]
    return optimiser | {"param_groups": groups}
