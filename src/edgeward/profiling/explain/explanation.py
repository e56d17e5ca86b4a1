"""The record `explanation` of a profile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from edgeward.profiling.explain import signatures
from edgeward.profiling.explain.config import ExplainConfig
from edgeward.profiling.explain.kernels import Kernel, int8_macs, read_kernels
from edgeward.profiling.explain.roofline import Bound, Roof, bound
from edgeward.records.explanation import CeilingsUsed, Explanation, KernelRow, OperatorSum
from edgeward.runtimes.base import GraphFacts
from edgeward.runtimes.kernels import KernelNames


def fused_share(exported: Mapping[str, int], executed: Mapping[str, int]) -> float | None:
    """Return the share of the exported nodes whose operator the engine executes less often.

    A node that was folded, fused into another or replaced by another operator counts as gone.
    Constants are no operators and not counted. None for a graph without nodes.
    """
    counted = {name: n for name, n in exported.items() if name != "Constant"}
    gone = sum(max(0, n - executed.get(name, 0)) for name, n in counted.items())
    return gone / sum(counted.values()) if counted else None


def _group(kernels: Sequence[Kernel], bounds: Sequence[Bound] | None) -> list[OperatorSum]:
    """Sum kernels by operator and the type of their products, longest first."""
    total = sum(kernel.us for kernel in kernels if kernel.inside is None)
    groups: dict[tuple[str, bool, bool], list[int]] = {}
    for i, kernel in enumerate(kernels):
        key = kernel.operator, kernel.integer, kernel.inside is not None
        groups.setdefault(key, []).append(i)
    records = []
    for (operator, _, inner), members in groups.items():
        mine = [kernels[i] for i in members]
        us = sum(k.us for k in mine)
        macs, moved = sum(k.macs or 0 for k in mine), sum(k.bytes_moved for k in mine)
        records.append(
            OperatorSum(
                operator=operator,
                inner=inner,
                kernels=len(mine),
                calls=sum(k.calls for k in mine),
                ms=us / 1e3,
                share=us / total if total else 0.0,
                macs=macs,
                bytes_moved=moved,
                intensity=macs / moved if moved else None,
                roofline_ms=None if bounds is None else sum(bounds[i].us for i in members) / 1e3,
            )
        )
    return sorted(records, key=lambda record: (record.inner, -record.ms))


def _listed(kernels: Sequence[Kernel], bounds: Sequence[Bound] | None) -> list[KernelRow]:
    return [
        KernelRow(
            name=k.name,
            operator=k.operator,
            inside=k.inside,
            calls=k.calls,
            us=k.us,
            macs=k.macs,
            bytes_moved=k.bytes_moved,
            roofline_us=None if bounds is None else bounds[i].us,
            bound_by=None if bounds is None else bounds[i].by,
        )
        for i, k in enumerate(kernels)
    ]


def explain(
    answer: Mapping[str, Any],
    facts: GraphFacts,
    names: KernelNames,
    median_ms: float,
    ceilings: CeilingsUsed | None,
    cfg: ExplainConfig,
) -> Explanation:
    """Return the section ``explanation`` of a profile.

    Parameters
    ----------
    answer : of the agent to the task ``operators``, run with the threads of the headline setting.
    facts : of the model's graph.
    names : what the engine's operators do.
    median_ms : measured median latency of the headline setting, ms.
    ceilings : of the same device, engine and threads; None leaves the roofline out.

    Returns
    -------
    Bytes are per inference, MACs too (all images of a batch). ``operators`` sums the kernels by
    operator, longest first; ``kernels`` has each one. Times of kernels are by the engine's own
    profiler, which costs some microseconds a kernel, so their sum exceeds `median_ms`.
    """
    kernels = read_kernels(answer["kernels"], facts.node_macs, names)
    best = None if ceilings is None else Roof.of(ceilings)
    bounds = None if best is None else [bound(kernel, best) for kernel in kernels]
    top = [kernel for kernel in kernels if kernel.inside is None]
    executed = Counter(kernel.operator for kernel in kernels)
    moved = sum(kernel.bytes_moved for kernel in kernels)
    macs = sum(kernel.macs or 0 for kernel in kernels)
    model_macs = facts.macs * facts.input_shape[0]
    weights = [kernel.weight_bytes for kernel in kernels]
    roofline = None if bounds is None else sum(b.us for b in bounds) / 1e3
    total = sum(k.us for k in top)
    weight = [k.us if total else k.macs or 0 for k in top]
    outside = sum(w for w, k in zip(weight, top, strict=True) if k.provider not in names.delegates)
    return Explanation(
        threads=answer["threads"],
        kernels_ms=total / 1e3,
        outside_delegates=outside / sum(weight) if names.delegates and sum(weight) else None,
        measured_ms=median_ms,
        macs=macs,
        macs_unknown=sorted({k.operator for k in kernels if k.macs is None and k.kind != "loop"}),
        bytes_moved=moved,
        weight_bytes=None if None in weights else sum(w for w in weights if w is not None),
        intensity=macs / moved if moved else None,
        int8_mac_share=int8_macs(kernels) / model_macs if model_macs else None,
        roofline_ms=roofline,
        roofline_share=None if roofline is None else roofline / median_ms,
        layout_changes=sum(kernel.calls for kernel in kernels if kernel.kind == "layout"),
        # A delegate has names of its own for what it executes.
        fused_share=None if names.delegates else fused_share(facts.operators, executed),
        ceilings=ceilings,
        operators=_group(kernels, bounds),
        kernels=_listed(kernels, bounds),
        signatures=signatures.of_model(kernels, bounds, facts.precision, names, cfg.signatures),
    )
