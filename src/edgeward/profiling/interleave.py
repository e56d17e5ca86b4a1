"""Stage ``interleave``: candidates timed in turns in one process, as ratios to the first of each group."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.core.errors import UserError
from edgeward.core.io import sha256
from edgeward.profiling.config import ProfileConfig
from edgeward.profiling.measuring import EMULATED
from edgeward.profiling.stage import request_for
from edgeward.profiling.statistics import drift, paired_ratio, percentile
from edgeward.profiling.transport import Device, open_device
from edgeward.profiling.transport.device import one_line
from edgeward.records.interleave import Interleave, InTurns, RefusedMember, TimedMember
from edgeward.records.profile import Agent
from edgeward.runtimes.graph import read_graph

log = logging.getLogger(__name__)

IDENTITY = ("data", "model", "seed", "recipe")
Member = Mapping[str, Any]


def _ask(
    cfg: ProfileConfig, device: Device, group: Sequence[Member], timed: bool
) -> dict[str, Any]:
    ranges = {
        m["file"]: read_graph(cfg.engine.name, Path(m["file"]), cfg.batch).metadata for m in group
    }
    common = [request_for(cfg, metadata) for metadata in ranges.values() or ({},)]
    if any(request != common[0] for request in common):
        raise UserError(
            f"{', '.join(map(str, ranges))}: the models do not take the same values "
            "(input_range in their metadata), so they cannot be compared in turns."
        )
    return device.ask(
        {
            **common[0],
            "task": "interleave",
            "models": [str(Path(m["file"]).resolve()) for m in group],
            "sha256s": [sha256(Path(m["file"])) for m in group],
            "threads": cfg.first_threads,
            "warmup": cfg.warmup.model_dump(),
            **cfg.interleave.model_dump(),
            **({} if timed else {"rounds": 0}),
            "max_duration_s": cfg.deadline_s / 2,
        }
    )


def _taken(cfg: ProfileConfig, device: Device, group: Sequence[Member]) -> dict[str, Any]:
    """Ask about the members that have a file for this engine; those without are refused, with the reason."""
    there = [i for i, member in enumerate(group) if member.get("refused") is None]
    answer = _ask(cfg, device, [group[i] for i in there], timed=0 in there)
    refused = [[there[i], reason] for i, reason in answer["refused"]]
    refused += [[i, m["refused"]] for i, m in enumerate(group) if i not in there]
    providers = answer["providers"] or cfg.engine.asked_for
    return {**answer, "providers": providers, "refused": sorted(refused)}


def compare(
    group: Sequence[Member], answer: Mapping[str, Any], cfg: ProfileConfig, emulated: bool
) -> InTurns:
    """Return the record of a group from the agent's answer.

    Latencies are medians over rounds; the ratio of the first candidate to itself is exactly 1. Without the first there
    are no candidates.
    """
    refused = dict(answer["refused"])
    left = [member for position, member in enumerate(group) if position not in refused]
    samples = np.array(answer["samples_ns"], dtype=np.float64) / 1e6  # (rounds, models, block)
    rounds = len(samples)
    latency = np.median(samples, axis=2) if rounds else samples
    where = f"config/profile/{cfg.name}.yaml"
    common = [EMULATED] if emulated else []
    if rounds < cfg.interleave.rounds:
        common.append(
            f"{rounds} of {cfg.interleave.rounds} rounds were done in time; raise deadline_s or "
            f"lower interleave.block in {where}"
        )
    candidates = []
    for position, member in enumerate(left if rounds else []):
        mine = latency[:, position]
        ratio = paired_ratio(mine, latency[:, 0], cfg.confidence)
        reasons = list(common)
        if position and (ratio.low is None or ratio.high is None):
            reasons.append(f"too few rounds for an interval; raise interleave.rounds in {where}")
        elif position and ratio.low is not None and ratio.high is not None:
            width = (ratio.high - ratio.low) / ratio.estimate
            if width > cfg.validity.max_interval_width:
                reasons.append(
                    f"the interval of the ratio is {width:.1%} wide, "
                    f"{cfg.validity.max_interval_width:.1%} allowed; raise interleave.rounds in "
                    f"{where}, or quieten the machine"
                )
            change = drift(mine / latency[:, 0])
            if abs(change) > cfg.validity.max_drift:
                reasons.append(
                    f"the ratio moved by {change:+.1%} from the first to the last quarter of the "
                    f"rounds, {cfg.validity.max_drift:.1%} allowed; let the machine settle"
                )
        candidates.append(
            TimedMember(
                **{name: member[name] for name in IDENTITY},
                latency_ms=percentile(np.sort(mine), 50, cfg.confidence),
                ratio=ratio,
                verdict="INVALID" if reasons else "VALID",
                reasons=reasons,
            )
        )
    return InTurns(
        threads=answer["threads"],
        batch=cfg.batch,
        rounds=rounds,
        block=cfg.interleave.block,
        duration_s=answer["duration_ns"] / 1e9,
        candidates=candidates,
        refused=[
            RefusedMember(
                **{name: group[position][name] for name in IDENTITY}, reason=one_line(reason)
            )
            for position, reason in refused.items()
        ],
        conditions=answer["conditions"],
    )


def run(cfg: ProfileConfig, groups: Sequence[Sequence[Member]], *, out: Path) -> dict[str, float]:
    """Time the members of each group in turns and write the comparison.

    Parameters
    ----------
    cfg : the device; its first thread setting is used.
    groups : members are ``data, model, seed, recipe, file`` and, where the engine has none, why it is ``refused``; the first of
        each group is what the others are compared with.
    out : the JSON to write.

    Returns
    -------
    Counts of groups, ratios, INVALID ratios and models that the engine refuses.

    Raises
    ------
    UserError
        If a model cannot be read or run, or the device fails. A model that the engine cannot load
        is not an error: it is recorded.
    """
    records, answer = [], {}
    with open_device(cfg) as device:
        for group in groups:
            answer = _taken(cfg, device, group)
            record = compare(group, answer, cfg, device.emulated)
            records.append(record)
            for r in record.refused:
                log.warning(
                    "%s: the engine refuses %s %s: %s", cfg.name, r.model, r.recipe, r.reason
                )
            for c in record.candidates[1:]:
                log.info(
                    "%s: %s %s takes %.3f times as long as %s %s (%s), %s%s",
                    cfg.name,
                    c.model,
                    c.recipe,
                    c.ratio.estimate,
                    group[0]["model"],
                    group[0]["recipe"],
                    " to ".join(
                        "?" if end is None else f"{end:.3f}" for end in (c.ratio.low, c.ratio.high)
                    ),
                    c.verdict,
                    "".join(f"; {reason}" for reason in c.reasons),
                )
        emulated, agent = device.emulated, Agent(sha256=device.agent_sha256)
    Interleave(
        device=cfg.name,
        emulated=emulated,
        host=answer["host"],
        engine={**answer["engine"], "providers": answer["providers"]},
        agent=agent,
        confidence=cfg.confidence,
        groups=records,
    ).write(out)
    judged = [c for record in records for c in record.candidates[1:]]
    return {
        "groups": float(len(records)),
        "ratios": float(len(judged)),
        "invalid_ratios": float(sum(c.verdict == "INVALID" for c in judged)),
        "refused": float(sum(len(record.refused) for record in records)),
    }
