"""What the search measures on: which images, violations on them, and a network that switches at no cost."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch
from torch.fx import GraphModule
from torchao.quantization.pt2e import FakeQuantizeBase

from edgeward.compression import backend
from edgeward.compression.constraint.acceptance import logits_of
from edgeward.compression.constraint.limits import Limits
from edgeward.compression.constraint.placement import Placement, place
from edgeward.compression.int8 import Int8
from edgeward.compression.ranges import RangeSchedule, take_ranges
from edgeward.compression.workpiece import Workpiece
from edgeward.data.store import Prepared


def search_images(data: Prepared, rare: Sequence[int], count: int | str, seed: int) -> np.ndarray:
    """Return validation and calibration images, ascending: all, or `count`, rare classes first."""
    pool = np.union1d(data.indices("val"), data.calibration)
    if count == "all" or int(count) >= len(pool):
        return pool
    shuffled = np.random.default_rng(seed).permutation(pool)
    is_rare = data.held(shuffled)[:, list(rare)].any(axis=1)
    chosen = np.concatenate([shuffled[is_rare], shuffled[~is_rare]])[: int(count)]
    return np.sort(chosen)


class Judge:
    """Violations of a network on some images, against the uncompressed one on the same."""

    def __init__(
        self,
        limits: Limits,
        data: Prepared,
        indices: np.ndarray,
        uncompressed: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        self.limits, self.data, self.indices = limits, data, indices
        self.labels = torch.from_numpy(data.truth[indices])
        self.reference = torch.from_numpy(logits_of(uncompressed, data, indices))

    def violations(self, model: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Return `Limits.violations` of `model`, float64."""
        logits = torch.from_numpy(logits_of(model, self.data, self.indices))
        return self.limits.violations(logits, self.reference, self.labels)


class Simulated:
    """The fake-quantized network, in which any set of modules, or of nodes, can be switched to float at no cost."""

    def __init__(
        self,
        piece: Workpiece,
        step: Int8,
        calibrated: GraphModule,
        graph: GraphModule,
        floating: Collection[str] | None = None,
    ) -> None:
        self.graph, self.kept = graph, list(step.keep_float)
        self.floating = floating
        self.model = backend.prepare_qat(
            backend.capture(piece.module, piece.example),
            momentum=0.0,
            reduce_range=step.reduced,
            granularity=step.weight_granularity,
            keep_float=step.keep_float,
            floating=floating,
        )
        take_ranges(self.model, calibrated)
        RangeSchedule(self.model, 0).eval()
        self.observed: dict[FakeQuantizeBase, set[str]] = {}
        for node in self.model.graph.nodes:
            if node.op != "call_module":
                continue
            fake = self.model.get_submodule(node.target)
            if isinstance(fake, FakeQuantizeBase):
                self.observed.setdefault(fake, set()).add(node.args[0].name)
        with torch.no_grad():
            self.model(piece.example)
        self.all = place(graph, self.kept, floating)
        self._check(self.all)

    def alone(self, name: str) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the network with only this module in integers."""
        return self._quantizing(self.all.of_module[name])

    def node_alone(self, name: str) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the network with only this node of its graph in integers."""
        return self._quantizing(self.all.of_node[name])

    def with_nodes_float(self, floating: Collection[str]) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the network with these nodes in float, besides `keep_float`."""
        return self._quantizing(place(self.graph, self.kept, floating).tensors)

    def with_float(self, names: Sequence[str]) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the network with these modules in float, besides `keep_float`."""
        return self._quantizing(place(self.graph, [*self.kept, *names]).tensors)

    def _quantizing(self, wanted: frozenset[str]) -> Callable[[torch.Tensor], torch.Tensor]:
        for fake, tensors in self.observed.items():
            fake.enable_fake_quant(not tensors.isdisjoint(wanted))
        return self.model

    def _check(self, placement: Placement) -> None:
        observed = set().union(*self.observed.values())
        if observed != placement.tensors:
            raise AssertionError(f"placement differs in {sorted(observed ^ placement.tensors)}")
