"""The sign-off sheet of a candidate: its checklist on two or three pages of paper, as PDF."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import Any

import typst

from edgeward.core import palette
from edgeward.core.text import (
    MISSING,
    count,
    fixed,
    listing,
    milliseconds,
    p_value,
    plural,
)
from edgeward.records.base import Interval
from edgeward.records.checklist import CandidateProvenance, Checklist, Deployment
from edgeward.records.profile import Energy
from edgeward.records.provenance import Commit
from edgeward.records.safety import EndpointRow
from edgeward.reporting.checklist import QUESTIONS
from edgeward.reporting.load import Candidate
from edgeward.reporting.mapping import FRAMEWORKS
from edgeward.reporting.numbers import bracket, bracket_ms

log = logging.getLogger(__name__)
READS = ("templates/signoff.typ",)  # read as a file: see edgeward.pipeline.closure

FACES = ["Libertinus Serif", "DejaVu Sans Mono"]  # both come with Typst; the second for signs
PAGES = 3
SIZES = (
    9.5,
    8.5,
    7.5,
    6.5,
    5.5,
)  # of type, points: the largest at which a sheet has no more pages than that
# Of lists that may be long, what paper shows; the files beside it hold all.
SHOWN = 10
CHARACTERS = 230

MEANING = {
    "pass": "On every endpoint the interval of the difference excludes a loss as large as the margin.",
    "fail": "On at least one endpoint the whole interval of the difference lies beyond the margin: the model is shown to be worse "
    "than its reference. It did not pass the gate.",
    "inconclusive": "The cases show neither a loss as large as a margin nor that there is none. This is no pass.",
    "reference": "This is the reference that compressed models are compared with. It is not itself judged.",
}
DECISIONS = "accept / accept with conditions / reject"

Row = list[str]
Sheet = dict[str, Any]


def sheet(content: Checklist, candidate: Candidate) -> Sheet:
    """Return what stands on the sheet of a candidate: texts, in tables and lists, ready to be set.

    Every endpoint is on it; lists of open items are cut, and say so.
    """
    c, verdict, made = content.candidate, content.verdict, content.provenance
    own = [item for item in content.sign_off.open_items if item not in QUESTIONS]
    return {
        "title": f"{c.model} · {c.recipe}",
        "date": made.date,
        "name": candidate.key,
        "synthetic": content.synthetic,
        "verdict": {
            "word": verdict.verdict,
            "symbol": palette.SYMBOLS[verdict.verdict],
            "colour": palette.LIGHT[verdict.verdict],
            "meaning": MEANING[verdict.verdict],
        },
        "identity": [
            ["Sweep", content.sweep],
            ["Data set", c.data],
            ["Model, seed", f"{c.model}, {c.seed}"],
            ["Recipe, precision", f"{c.recipe}, {c.precision}"],
            ["Compared with", verdict.reference if verdict.endpoints else MISSING],
            ["File, SHA-256", made.model_sha256],
        ],
        "intended_use": content.intended_use
        or f"Not stated. Write it in the sweep: intended_use in config/sweeps/{content.sweep}.yaml.",
        "endpoints": [_endpoint(e) for e in verdict.endpoints],
        "because": [
            _short(e.reason)
            for e in verdict.endpoints
            if e.outcome == "inconclusive" and e.cases_needed is None
        ],
        "level": f"{100 * content.safety.confidence_level:g} %",
        "lost_left_out": max(0, len(verdict.also_lost) - SHOWN),
        "lost": [
            f"{loss.name}: {_interval(loss.reference)} → {_interval(loss.compressed)}, difference "
            f"{_interval(loss.difference, signed=True)}, n = {count(loss.n)}, p {p_value(loss.p_holm)} (exact McNemar, Holm)"
            for loss in verdict.also_lost[:SHOWN]
        ],
        "judged": bool(verdict.endpoints),
        "metrics": [
            [m.label, _interval(content.safety.metrics[m.name], m.digits)]
            for name in dict.fromkeys([*candidate.task.columns, *candidate.task.quality])
            if (m := candidate.task.metric(name)).name in content.safety.metrics
        ],
        "elsewhere": [
            f"By what {d.on.device} decides ({d.on.engine}{', emulated' if d.on.emulated else ''}): {d.verdict.verdict}; it decides "
            f"{_interval(d.on.agreement, 4)} of {count(d.n['test'])} {candidate.case}s as the host does."
            for d in content.decided
        ],
        "data": _data(content, candidate),
        "devices": [_device(d) for d in content.deployment],
        "open": _cut(own),
        "left_out": max(0, len(own) - SHOWN),
        "questions": list(QUESTIONS),
        "provenance": _provenance(made),
        "mapping": [
            {
                "framework": FRAMEWORKS[name],
                "items": [[m.item, m.about, m.state, m.evidence] for m in items],
            }
            for name, items in groupby(content.mapping, key=lambda m: m.framework)
        ],
        "decisions": DECISIONS,
        "signatures": [line["role"] for line in content.sign_off.signatures],
    }  # fmt: skip


def pdf(content: Mapping[str, Any]) -> bytes:
    """Return a sheet as PDF; the same content gives the same bytes.

    Letters are those that come with Typst. Others are taken from the fonts of the machine; a character that no font has is shown
    by its code point, as ‹U+76AE›, and the log says so.
    """
    text = json.dumps(content, ensure_ascii=False)
    signs = "".join(sorted({sign for sign in text if not sign.isascii()}))
    system = not _has_fonts(signs, system=False)
    if system and (strange := [sign for sign in signs if not _has_fonts(sign, system=True)]):
        log.warning(
            "%s: no font on this machine has %s; the sheet shows their code points. Install one, e.g. Noto Sans, and run report again.",
            content["name"],
            listing([f"U+{ord(sign):04X}" for sign in strange]),
        )
        text = text.translate({ord(sign): f"‹U+{ord(sign):04X}›" for sign in strange})
    for size in SIZES:
        compiler = _compiler(_template(), system, sheet=text, size=str(size))
        if json.loads(compiler.query("<pages>", field="value", one=True)) <= PAGES:
            break
    done = compiler.compile(_template())  # a query leaves a compiler without its source
    assert isinstance(done, bytes)  # a PDF is one file
    return done


def _compiler(source: bytes, system: bool, **inputs: str) -> typst.Compiler:
    inputs = {"faces": json.dumps(FACES), **inputs}
    return typst.Compiler(source, font_paths=_fonts(system), sys_inputs=inputs)


@cache
def _template() -> bytes:
    return (files("edgeward.reporting") / READS[0]).read_bytes()


@cache
def _fonts(system: bool) -> typst.Fonts:
    return typst.Fonts(include_system_fonts=system)


@cache
def _has_fonts(signs: str, *, system: bool) -> bool:
    """Tell whether fonts have these characters: PDF/A refuses those that cannot be displayed."""
    source = b"#set text(font: json(bytes(sys.inputs.faces)))\n#sys.inputs.signs"
    try:
        _compiler(source, system, signs=signs).compile(pdf_standards=["a-2b"])
    except typst.TypstError:
        return False
    return True


def _interval(value: Interval, digits: int = 3, *, signed: bool = False) -> str:
    ends = bracket(value, digits, signed=signed)
    return f"{fixed(value.estimate, digits, signed=signed)} {ends}".rstrip()


def _endpoint(row: EndpointRow) -> dict[str, Any]:
    margin = f"{row.margin:g}" if row.floor is None else f"at least {row.floor:g}"
    worse = " ↓" if row.surely_worse else ""
    return {
        "cells": [
            row.name,
            _interval(row.reference),
            _interval(row.compressed),
            _interval(row.difference, signed=True),
            margin,
            f"{count(row.n)} ({count(row.n_groups)})",
        ],
        "outcome": f"{palette.SYMBOLS[row.outcome]} {row.outcome}{worse}",
        "colour": palette.LIGHT[row.outcome],
        "needed": count(row.cases_needed),
    }


def _data(content: Checklist, candidate: Candidate) -> list[Row]:
    card, safety = content.provenance.data, content.safety
    splits = [
        f"{name} {count(sum(card.counts[name].values()))} ({count(card.groups[name])} groups)"
        for name in card.groups
    ]
    named = [
        f"{label}: {', '.join(names)}"
        for label, names in (("rare", safety.rare_classes), ("critical", safety.critical_classes))
        if names
    ]
    found = card.leakage.findings
    leaks = "no findings" if not found else f"{plural(len(found), 'finding')}: judge them"
    n = content.provenance.calibration.n
    return [
        ["Source", f"{card.source}; licence: {card.licence}"],
        ["Cited as", _short(card.citation)],
        ["Splits, cases by class" if candidate.task.dense else "Splits", ", ".join(splits)],
        ["Test set", candidate.sample],
        [f"Classes ({len(safety.classes)})", _short("; ".join([", ".join(safety.classes), *named]))],
        ["Audit for leaks", leaks],
        ["Calibration", f"{count(n)} cases of train" if n else "none"],
    ]  # fmt: skip


def _device(d: Deployment) -> dict[str, Any]:
    host = d.host
    machine = f"{host.cpu or host.machine}, {plural(host.cores_usable, 'core')}{', virtual' if host.virtual else ''}"
    first = d.settings[0] if d.settings else None
    latency = first.latency_ms if first else None
    tail = getattr(latency, "p99", None) or Interval()
    facts = [
        ["Machine", machine],
        ["Engine", f"{d.engine.name} {d.engine.version} ({', '.join(d.engine.providers)})"],
        ["File", f"{fixed(d.model.file_bytes / 1e6, 2)} MB, {d.model.precision}"],
        ["Energy per inference", _energy(d)],
        ["Speed against the reference", _speed(d)],
    ]
    if d.refused is not None:
        return {"name": d.device, "facts": facts, "timing": [], "validity": f"! Refused: the engine cannot load the model. {_short(d.refused)}"}  # fmt: skip
    assert first is not None  # as the record has it
    assert latency is not None
    timing = [
        ["median", f"{milliseconds(latency.p50.estimate)} {bracket_ms(latency.p50)} ms"],
        ["p90", f"{milliseconds(latency.p90.estimate)} {bracket_ms(latency.p90)} ms"],
        ["p99", f"{milliseconds(tail.estimate)} {bracket_ms(tail)} ms"],
        ["memory", f"{fixed(first.peak_memory_mb, 1)} MB"],
        [
            "setting",
            f"{plural(first.threads, 'thread')}, batch {first.batch}, {'×'.join(map(str, first.resolution))}, warm-up {first.warmup}, "
            f"n = {count(first.n)}",
        ],
    ]
    reasons = f"! INVALID, do not use: {_short('; '.join(first.reasons))}"
    return {
        "name": d.device,
        "facts": facts,
        "timing": timing,
        "validity": "VALID" if first.verdict == "VALID" else reasons,
    }


def _energy(d: Deployment) -> str:
    if not isinstance(d.energy, Energy):
        return f"not measured: {d.energy.reason}"
    e = d.energy
    invalid = "" if e.verdict == "VALID" else " ! INVALID"
    return f"{fixed(e.net_mj.median)} mJ above idle, {fixed(e.gross_mj.median)} mJ in all, by {e.counter.kind}{invalid}"


def _speed(d: Deployment) -> str:
    if d.speedup is None:
        return MISSING
    how = "in turns" if d.speedup.in_turns else "timed one after the other"
    return (
        f"{_interval(d.speedup, 2)} times as fast, {how}{'' if d.speedup.valid else ' ! INVALID'}"
    )


def _state(found: Commit | None, what: str) -> str:
    if found is None:
        return f"{what}: no git checkout"
    return f"{what}: {found.commit}, {'DIRTY: files differ from it' if found.dirty else 'clean'}"


def _provenance(made: CandidateProvenance) -> list[Row]:
    commits = [_state(made.library, "edgeward")]
    if made.study is not None:
        commits.append(_state(made.study, "study"))
    versions = {**made.versions, **made.parity.engine}
    return [
        ["Written", f"{made.date} by edgeward {made.edgeward}"],
        ["Commit", "; ".join(commits)],
        ["Lock, SHA-256", made.lock_sha256 or "none: edgeward is installed"],
        ["Sweep, SHA-256", made.sweep_sha256],
        [
            "Configuration, SHA-256",
            ", ".join(f"{stage} {value[:12]}" for stage, value in made.config_sha256.items())
            or MISSING,
        ],
        ["Data, SHA-256", made.data_sha256],
        ["Model file, SHA-256", made.model_sha256],
        ["Environment", f"Python {made.python}, {made.system}, {len(made.packages)} packages, of them {', '.join(f'{k} {v}' for k, v in versions.items())}"],
        ["Seeds", ", ".join(f"{what} {seed}" for what, seed in made.seeds.items())],
    ]  # fmt: skip


def _short(text: str) -> str:
    return text if len(text) <= CHARACTERS else f"{text[: CHARACTERS - 2].rstrip()} …"


def _cut(items: Sequence[str]) -> list[str]:
    return [_short(item) for item in items[:SHOWN]]
