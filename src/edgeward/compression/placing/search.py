"""The fastest placement of a network on a device, or the first of the front of time and harm that keeps a safety constraint."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.fx import GraphModule

from edgeward.compression import backend
from edgeward.compression.constraint.limits import Limits
from edgeward.compression.constraint.simulated import Judge, Simulated, search_images
from edgeward.compression.int8 import Int8
from edgeward.compression.placing.cut import Problem
from edgeward.compression.placing.network import Network, read_network
from edgeward.compression.workpiece import Workpiece
from edgeward.core.errors import UserError
from edgeward.models.program import export_program
from edgeward.runtimes.base import Bench, Timed
from edgeward.training.config import SafetyLimits

logger = logging.getLogger(__name__)
Placed = list[bool]  # of every unit: whether it runs in integers


@dataclass(frozen=True)
class Placer:
    """A network whose operators have been timed on a device."""

    piece: Workpiece
    step: Int8
    bench: Bench
    graph: GraphModule
    network: Network
    problem: Problem

    @classmethod
    def of(cls, piece: Workpiece, step: Int8) -> Placer:
        """Time the operators of a network on the device of the recipe.

        Raises
        ------
        UserError
            If no device is at hand.
        """
        if piece.bench is None:
            raise UserError(
                f"step '{step.model_dump()['step']}' places by times on a device, and none is at hand: it runs in the workflow, whose rule "
                "opens the one that the recipe names (key 'device')."
            )
        graph = backend.capture(piece.module, piece.example)
        network = read_network(graph, step.keep_float, piece.bench.runtime.plain)
        problem = network.problem(piece.bench.costs(network.asked))
        return cls(piece, step, piece.bench, graph, network, problem)

    def floating(self, placed: Placed) -> list[str]:
        """Return the nodes that a placement leaves in float."""
        units = zip(self.network.units, placed, strict=True)
        return [unit.name for unit, integer in units if not integer]

    def ms(self, placed: Placed) -> float:
        """Return the time of the operators that may be placed, and of their conversions."""
        return self.problem.time(placed) / 1e3

    def build(self, placed: Placed) -> None:
        """Calibrate and convert a placement: it becomes the piece's program."""
        self.step.finish(self.piece, self.step.calibrate(self.piece, self.floating(placed)))


def run(
    piece: Workpiece,
    step: Int8,
    constraint: SafetyLimits | None,
    *,
    ranking_images: int | Literal["all"],
) -> None:
    """Place, convert, and time what ships beside the network in float; record what was found.

    In float the network ships as it is where no placement is expected to be faster, or where the one that was built turns out slower.
    """
    before, found = dict(piece.record), dict(piece.found)
    placer = Placer.of(piece, step)
    nothing = [False] * len(placer.network.units)
    facts: dict[str, Any] = {}
    if constraint is None:
        placed = placer.problem.fastest()
        if any(placed):
            placer.build(placed)
    else:
        placed, facts = _safe(placer, constraint, ranking_images)
    reference = export_program(piece.module, piece.example)
    timed, reason = None, "no operator is faster in integers, conversions included"
    if constraint is not None and not any(placed):
        reason = "no placement in integers that is faster keeps the safety constraint"
    if any(placed):
        assert piece.program is not None
        (timed,) = placer.bench.in_turns(reference, [piece.program])
        reason = _slower(timed)
    if reason:
        piece.record, piece.found, piece.program = before, found, reference
        piece.metrics["quantized_parameter_share"] = 0.0
        piece.found["float_ships"] = reason
    units = placer.network.units
    saved = placer.ms(nothing) - placer.ms(placed)
    piece.effect = {
        "device": placer.bench.name,
        "engine": placer.bench.runtime.name,
        "units": len(units),
        "integer": [unit.name for unit, integer in zip(units, placed, strict=True) if integer],
        "float": placer.floating(placed),
        "float_ms": placer.ms(nothing),
        "placed_ms": placer.ms(placed),
        "predicted_ratio": _predicted(timed, saved),
        "measured": None if timed is None else _content(timed),
        "ships": "fp32" if reason else "int8",
        "reason": reason or None,
        **facts,
    }
    piece.metrics["integer_operators"] = 0.0 if reason else float(sum(placed))
    if timed is not None and timed.ratio is not None:
        piece.metrics["placed_ratio"] = timed.ratio[0]
    logger.info(
        "%s: %d of %d operators in integers, %.3f ms less of %.3f expected%s",
        *(placer.bench.name, sum(placed), len(units), saved, placer.ms(nothing)),
        f"; float ships: {reason}" if reason else "",
    )


def _slower(timed: Timed) -> str:
    """Say why what was built does not ship; nothing if it does."""
    if timed.ratio is None:
        return f"the engine refuses the placement: {timed.refused}"
    ratio, low, high = timed.ratio
    if low is not None and low > 1:
        end = "?" if high is None else f"{high:.3f}"
        return f"built, it took {ratio:.3f} times as long as in float ({low:.3f} to {end})"
    return ""


def _predicted(timed: Timed | None, saved_ms: float) -> float | None:
    """Return the expected ratio to float: the operators that are not placed take what the network in float takes beside them."""
    if timed is None or timed.reference_ms is None:
        return None
    return 1 - saved_ms / timed.reference_ms


def _content(timed: Timed) -> dict[str, Any]:
    ratio, low, high = timed.ratio or (None, None, None)
    return {
        "reference_ms": timed.reference_ms,
        "latency_ms": timed.latency_ms,
        "ratio": {"estimate": ratio, "low": low, "high": high},
        "refused": timed.refused,
    }


def _safe(
    placer: Placer, constraint: SafetyLimits, ranking_images: int | Literal["all"]
) -> tuple[Placed, dict[str, Any]]:
    """Walk the front from its fast end to the first placement that keeps the constraint once it is converted.

    Returns
    -------
    That placement (nothing in integers, if none does), and facts for the record.
    """
    piece, step = placer.piece, placer.step
    limits = Limits.of(constraint, piece.data, piece.meta)
    images = search_images(piece.data, limits.rare, "all", piece.seed)
    ranking = search_images(piece.data, limits.rare, ranking_images, piece.seed)
    judge = Judge(limits, piece.data, images, piece.uncompressed)
    simulated = Simulated(piece, step, step.calibrate(piece, ()), placer.graph, ())

    def on_graph(placed: Placed) -> torch.Tensor:
        return judge.violations(simulated.with_nodes_float(placer.floating(placed)))

    fastest = placer.problem.fastest()
    start = on_graph(fastest)
    violated = start > 0 if bool((start > 0).any()) else torch.ones_like(start, dtype=torch.bool)
    harm = _harm(placer, simulated, Judge(limits, piece.data, ranking, piece.uncompressed), violated)  # fmt: skip
    front = placer.problem.front(harm)
    seen: list[dict[str, Any]] = []
    chosen, final = [False] * len(fastest), -limits.slack()
    for placed in front:
        if not any(placed):
            break
        found = start if placed == fastest else on_graph(placed)
        row = {"simulated": found.tolist(), "converted": None}
        seen.append(row)
        if bool((found <= 0).all()):
            placer.build(placed)
            assert piece.program is not None
            built = judge.violations(piece.program.module())
            row["converted"] = built.tolist()
            if bool((built <= 0).all()):
                chosen, final = placed, built
                break
    points = [
        {"ms": placer.ms(p), "harm": _sum(harm, p), "integer": sum(p), "tried": i < len(seen)}
        for i, p in enumerate(front)
    ]
    piece.metrics["constraint_holds"] = 1.0
    return chosen, {
        "constraints": limits.names,
        "images": {"all": len(images), "ranking": len(ranking)},
        "harm": {u.name: h for u, h in zip(placer.network.units, harm, strict=True)},
        "front": points,
        "tried": seen,
        "chosen": {"ms": placer.ms(chosen), "harm": _sum(harm, chosen)},
        "violations": final.tolist(),
        "holds": True,
    }


def _sum(harm: Sequence[float], placed: Placed) -> float:
    return float(sum(h for h, integer in zip(harm, placed, strict=True) if integer))


def _harm(
    placer: Placer, simulated: Simulated, judge: Judge, violated: torch.Tensor
) -> list[float]:
    """Return by how much each unit alone in integers raises the violated constraints; never less than 0.

    As in the greedy search, alone in integers and not alone in float (`edgeward.compression.constraint.search`).
    """
    as_float = -judge.limits.slack()
    harm = []
    for unit in placer.network.units:
        found = judge.violations(simulated.node_alone(unit.name))
        harm.append(max(0.0, float((found - as_float)[violated].sum())))
    return harm
