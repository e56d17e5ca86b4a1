"""Which layers go back to float: greedy by harm per added latency, then whatever proves needless.

Harm is measured, not guessed: every module alone in integers, all others in float, on the
fake-quantized graph. neural-compressor's `autotune` walks a given list of whole configurations and
stops at the first that passes; it can neither drop what a later layer made needless nor say that none
passed, and calibrates anew for each, so it does not drive this (docs/safe-compression.md).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch.fx import GraphModule

from edgeward.compression import backend
from edgeward.compression.constraint.limits import Limits
from edgeward.compression.constraint.placement import cost, macs, place, units
from edgeward.compression.constraint.simulated import Judge, Simulated, search_images
from edgeward.compression.int8 import Int8
from edgeward.compression.quantizer import QUANTIZER
from edgeward.compression.workpiece import Workpiece
from edgeward.training.config import SafetyLimits

logger = logging.getLogger(__name__)
Measure = Callable[[Sequence[str]], torch.Tensor]


@dataclass(frozen=True)
class Found:
    """The outcome of `greedy`: modules in float, and their violations."""

    floating: list[str]
    violations: torch.Tensor

    @property
    def holds(self) -> bool:
        """Whether the constraint holds."""
        return _holds(self.violations)


def run(
    piece: Workpiece,
    step: Int8,
    constraint: SafetyLimits,
    *,
    ranking_images: int | Literal["all"],
    int8_speedup: float,
    conversion: float,
) -> None:
    """Search, convert with the modules found in float, and record what was found.

    Only what is converted counts: all in integers first, which may do. The search itself runs on the
    fake-quantized graph, which differs a little from what is converted; so while its result does not
    hold, the next module in order of harm goes back to float, too.

    Parameters
    ----------
    step : number format and calibration. The others are its settings, see `steps.safe_mixed_int8`.
    """
    data, kept = piece.data, list(step.keep_float)
    limits = Limits.of(constraint, data, piece.meta)
    images = search_images(data, limits.rare, "all", piece.seed)
    ranking = search_images(data, limits.rare, ranking_images, piece.seed)
    judge = Judge(limits, data, images, piece.uncompressed)
    graph = backend.capture(piece.module, piece.example)

    def price(floating: Sequence[str]) -> float:
        return cost(
            graph,
            place(graph, [*kept, *floating]),
            int8_speedup=int8_speedup,
            conversion=conversion,
        )

    calibrated = step.calibrate(piece)
    start = final = _convert(piece, step, calibrated, judge)
    floating: list[str] = []
    harm: dict[str, float] = {}
    order: list[str] = []
    if not _holds(start):
        simulated = Simulated(piece, step, step.calibrate(piece), graph)
        harm = _harm(simulated, Judge(limits, data, ranking, piece.uncompressed), start > 0)
        order = by_harm_per_cost(harm, {name: price((name,)) - price(()) for name in harm})
        found = greedy(order, lambda names: judge.violations(simulated.with_float(names)), price)
        floating = list(found.floating)
        rest = [name for name in order if name not in floating]
        while True:
            chosen = step.model_copy(update={"keep_float": [*kept, *floating]})
            final = _convert(piece, chosen, chosen.calibrate(piece), judge)
            if _holds(final) or not found.holds or not rest:
                break
            floating.append(rest.pop(0))
    piece.effect = {
        "constraints": limits.names,
        "images": {"all": len(images), "ranking": len(ranking)},
        "violations_int8": start.tolist(),
        "violations": final.tolist(),
        "holds": _holds(final),
        "float": floating,
        "order": order,
        "harm": harm,
        "cost": {
            "unit": "million float multiply-accumulates",
            "int8": price(()),
            "chosen": price(floating),
            "fp32": sum_macs(graph),
        },
    }
    piece.metrics["float_modules"] = float(len(floating))
    piece.metrics["constraint_holds"] = float(_holds(final))
    logger.info(
        "%d modules in float, constraint %s: %s",
        len(floating),
        "holds" if _holds(final) else "does not hold",
        ", ".join(f"{n} {v:+.4f}" for n, v in zip(limits.names, final.tolist(), strict=True)),
    )


def _convert(piece: Workpiece, step: Int8, calibrated: GraphModule, judge: Judge) -> torch.Tensor:
    """Make the piece's program, and return its violations."""
    step.finish(piece, calibrated)
    assert piece.program is not None
    return judge.violations(piece.program.module())


def _holds(violations: torch.Tensor) -> bool:
    return bool((violations <= 0).all())


def _harm(simulated: Simulated, judge: Judge, violated: torch.Tensor) -> dict[str, float]:
    """Return by how much each module alone in integers raises the violated constraints.

    Alone in integers, not alone in float: on top of the rounding of all others, one module more or less
    moves the few images at the boundary by chance, and such effects sum to many times the whole.
    """
    float_network = -judge.limits.slack()
    harm = {}
    for name in units(simulated.graph, simulated.kept):
        found = judge.violations(simulated.alone(name))
        harm[name] = float((found - float_network)[violated].sum())
    return harm


def sum_macs(graph: GraphModule) -> float:
    """Return the cost with nothing quantized."""
    return (
        sum(macs(graph, node) for node in graph.graph.nodes if node.target in QUANTIZER.weighted)
        / 1e6
    )


def by_harm_per_cost(harm: dict[str, float], added: dict[str, float]) -> list[str]:
    """Order modules by harm per added cost, those without harm last.

    A module that costs nothing more in float (it saves conversions) and does harm comes first.
    """

    def key(name: str) -> tuple[int, float]:
        if harm[name] <= 0:
            return 2, -harm[name]
        if added[name] <= 0:
            return 0, -harm[name]
        return 1, -harm[name] / added[name]

    return sorted(harm, key=key)


def greedy(
    order: Sequence[str], measure: Measure, price: Callable[[Sequence[str]], float]
) -> Found:
    """Put modules back to float in the given order until the constraint holds; then take back in vain ones.

    Parameters
    ----------
    order : modules, most harmful per cost first.
    measure : violations with these modules in float; the constraint holds if none is positive.
    price : estimated latency with these modules in float.

    Returns
    -------
    If it holds: a set from which no single module can be taken back, the dearest tried first. If it
    does not even with all of `order`: the first modules with which the violations sum to least.
    """
    best = Found([], measure([]))
    for count in range(1, len(order) + 1):
        if best.holds:
            break
        now = measure(order[:count])
        if _holds(now) or _excess(now) < _excess(best.violations):
            best = Found(list(order[:count]), now)
    if not best.holds:
        return best
    kept = best.floating
    saved = {name: price(kept) - price([n for n in kept if n != name]) for name in kept}
    for name in sorted(kept, key=lambda n: -saved[n]):
        without = [other for other in best.floating if other != name]
        if without and price(without) <= price(best.floating):
            now = measure(without)
            if _holds(now):
                best = Found(without, now)
    return best


def _excess(violations: torch.Tensor) -> float:
    return float(violations.clamp(min=0).sum())
