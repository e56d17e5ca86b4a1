"""The HTML page and the Markdown checklists: templates filled with what was read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import edgeward
from edgeward.core.pictures import COLOURS
from edgeward.reporting import numbers, overlays, palette, ranks, signatures, svg, tasks
from edgeward.reporting.comparison import Row, over_seeds, rare_cases
from edgeward.reporting.figures import Key
from edgeward.reporting.headline import headline
from edgeward.reporting.interleaved import Ratio, between_models, own_reference
from edgeward.reporting.load import Candidate, Timing, by_data, reference_of
from edgeward.reporting.numbers import Interval, interval

READS = ("templates/*",)  # read as files: see edgeward.pipeline.closure
PARITY_LEFT_OUT = ("tolerance", "sensitivity", "unfused_vs_torch", "fused_vs_unfused", "batches")


@cache
def _environment(escape: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("edgeward.reporting"),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(
        {name: getattr(numbers, name) for name in (
            "interval", "fixed", "milliseconds", "count", "short", "bracket", "bracket_ms",
            "p_value", "plural", "listing", "span",
        )},
        symbol=palette.SYMBOLS,
        flat=flat,
        parity_figures=parity_figures,
        noted=tasks.noted,
        length_unit=tasks.length_unit,
        sizes=lambda whole: [math.prod(shape) for shape in whole.shapes],
        MISSING=numbers.MISSING,
    )  # fmt: skip
    environment.filters["md"] = markdown_cell
    return environment


def flat(value: Any, prefix: str = "", limit: int = 12) -> list[tuple[str, str]]:
    """Flatten nested records into (dotted key, text) pairs; long lists are cut and say so."""
    if isinstance(value, Mapping):
        if {"estimate", "low", "high"} <= value.keys():
            record = interval(value)
            return [(prefix, f"{_scalar(record.estimate)} {numbers.bracket(record, 4)}".strip())]
        return [
            pair
            for key, part in value.items()
            for pair in flat(part, f"{prefix}.{key}" if prefix else str(key), limit)
        ]
    if isinstance(value, list | tuple):
        if any(isinstance(item, Mapping | list | tuple) for item in value):
            return [
                pair
                for i, item in enumerate(value[:limit])
                for pair in flat(item, f"{prefix}[{i}]", limit)
            ]
        if not value:
            return [(prefix, "none")]
        shown = ", ".join(_scalar(item) for item in value[:limit])
        return [(prefix, shown + (f", … ({len(value)} in all)" if len(value) > limit else ""))]
    return [(prefix, _scalar(value))]


def _scalar(value: Any) -> str:
    if value is None:
        return numbers.MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def markdown_cell(value: Any) -> str:
    """Make text from data safe inside a Markdown table or list: no markup, no line break."""
    text = " ".join(str(value).split())
    for sign, safe in (("\\", "\\\\"), ("`", "\\`"), ("*", "\\*"), ("](", "]\\("),
                       ("<", "&lt;"), ("|", "&#124;")):  # fmt: skip
        text = text.replace(sign, safe)
    return text


def parity_figures(parity: Mapping[str, Any]) -> dict[str, Any]:
    """Return what matters of a parity record: not its tolerances, nor how they were found."""
    return {key: value for key, value in parity.items() if key not in PARITY_LEFT_OUT}


def checklist_markdown(content: Mapping[str, Any]) -> str:
    """Return a checklist (see `edgeward.reporting.checklist`) as Markdown."""
    task = tasks.TASKS[content["safety"]["task"]]
    return _environment(False).get_template("checklist.md.j2").render(c=content, task=task)


def heat(confusion: list[list[int]]) -> list[list[tuple[int, float | None]]]:
    """Return a confusion matrix (rows: truth) with each count's share of its row."""
    return [[(n, n / sum(row) if sum(row) else None) for n in row] for row in confusion]


def whisker(value: Interval, margin: float | None, reach: float) -> dict[str, float] | None:
    """Return the x positions (0-100) of a small interval plot centred on zero.

    Parameters
    ----------
    value : the difference.
    margin : a non-inferiority margin to mark below zero, or None.
    reach : the difference at the edges of the plot.
    """
    if not value.bounded or reach <= 0:
        return None

    def place(x: float | None) -> float:
        return round(50 + 48 * max(-1.0, min(1.0, (x or 0) / reach)), 2)

    marks = {"low": place(value.low), "mid": place(value.estimate), "high": place(value.high)}
    return marks if margin is None else marks | {"margin": place(-abs(margin))}


def _margin(candidate: Candidate) -> float | None:
    """Return the margin on the primary metric: its endpoint's, or the one all rare classes share."""
    endpoints = candidate.verdict["endpoints"]
    own = {e["margin"] for e in endpoints if e["metric"] == candidate.task.primary.name}
    rare = set(candidate.safety["rare_classes"])
    shared = own or {e["margin"] for e in endpoints if e.get("class") in rare}
    return float(shared.pop()) if len(shared) == 1 else None


def _entry(candidate: Candidate, row: Row, reach: float) -> dict[str, Any]:
    """Gather what a line of the comparison table shows."""

    def part(name: str) -> Interval:
        return Interval(row[name], row[f"{name}_low"], row[f"{name}_high"])

    delta = part(f"delta_{candidate.task.primary.name}")
    return {
        "row": row,
        "anchor": candidate.key,
        "delta": delta,
        "whisker": whisker(delta, _margin(candidate), reach),
        **{name: part(name) for name in ("p50_ms", "p90_ms", "speedup", "paired_speedup")},
        "metrics": {metric.name: part(metric.name) for metric in candidate.task.columns},
    }


def _dense(found: dict[str, Any] | None, position: int) -> dict[str, Any] | None:
    """Return what only segmentation shows, ready for the template."""
    if found is None:
        return None
    figure = found["wholes_figure"]
    return {
        **found,
        "colours": COLOURS,
        "changed": overlays.CHANGED,
        "wholes_figure": figure and Markup(svg.inline(figure, f"f{position}-volumes")),
    }


def _measured(members: list[Candidate]) -> list[dict[str, Any]]:
    """Return per device how the latencies of the comparison were measured."""
    devices: dict[str, list[Timing]] = {}
    for candidate in members:
        for device in candidate.profiles:
            if timing := candidate.timing(device):
                devices.setdefault(device, []).append(timing)
    return [
        {
            "device": device,
            "threads": timings[0].threads,
            "batch": timings[0].batch,
            "warmup": [interval(t.setting.get("warmup")).estimate for t in timings],
            "n": [interval(t.setting.get("n")).estimate for t in timings],
            "confidence": (timings[0].profile.get("config") or {}).get("confidence"),
        }
        for device, timings in devices.items()
    ]


def _group(
    data: str,
    members: list[Candidate],
    table: list[Row],
    drawn: dict[str, str],
    position: int,
    signs: list[signatures.Record],
    studies: list[dict[str, Any]],
    ratios: list[Ratio],
) -> dict[str, Any]:
    rows = [row for row in table if row["data"] == data]
    by_key = {(c.model, c.seed, c.recipe): c for c in members}
    task = members[0].task
    primary = f"delta_{task.primary.name}"
    ends = [abs(row[f"{primary}_{end}"] or 0) for row in rows for end in ("low", "high")]
    margins = [m for c in members if (m := _margin(c)) is not None]
    reach = 1.1 * max([*ends, *margins, 0.0])
    return {
        "data": data,
        "id": f"data-{position}",
        "card": members[0].card,
        "task": task,
        # Small lesions are asked for, or not; the others are always there.
        "columns": [
            m
            for m in task.columns
            if m.name != "small_lesion_sensitivity" or any(row[m.name] is not None for row in rows)
        ],
        "n": members[0].safety["n"],
        "confidence": members[0].confidence,
        "n_rare": None if task.segments else rare_cases(members[0]),
        "entries": [
            _entry(by_key[row["model"], row["seed"], row["recipe"]], row, reach) for row in rows
        ],
        "several_seeds": len({c.seed for c in members}) > 1,
        "several_devices": len({row["device"] for row in rows}) > 1,
        "over_seeds": over_seeds(rows, ("p50_ms", *(m.name for m in task.columns))),
        "measured": _measured(members),
        "figures": {
            name: Markup(svg.inline(document, f"f{position}-{name}"))
            for name, document in drawn.items()
        },
        "candidates": members,
        "in_turns": sorted(
            (r for r in between_models(ratios) if r.candidate.data == data),
            key=lambda r: (r.device, r.value.estimate or 0),
        ),
        "energy_reasons": _energy_reasons(members),
        "paired": any(row["paired_speedup"] is not None for row in rows),
        "studies": [study for study in studies if study["data"] == data],
        "shown_signs": _signs(members, signs),
    }


def _energy_reasons(members: list[Candidate]) -> list[str]:
    """Return per device why it has no energy figure, each reason once."""
    reasons: dict[str, list[str]] = {}
    for candidate in members:
        for device, profile in candidate.profiles.items():
            energy = profile.get("energy") or {}
            if energy.get("status") != "measured":
                reason = str(energy.get("reason") or "not recorded").rstrip(".")
                reasons.setdefault(reason, [])
                if device not in reasons[reason]:
                    reasons[reason].append(device)
    return [f"on {', '.join(devices)}, {reason}" for reason, devices in reasons.items()]


def _signs(members: list[Candidate], signs: list[signatures.Record]) -> dict[str, Any]:
    """Return the signatures looked for, and per candidate and device which were found."""
    lines: list[dict[str, Any]] = [
        {"candidate": c, "device": device, "found": {r["name"]: r for r in found}}
        for c in members
        for device in c.profiles
        if (found := signatures.of_candidate(c, device, signs))
    ]
    names = [name for name in signatures.TITLES if any(name in line["found"] for line in lines)]
    return {"names": names, "lines": lines}


def page(
    sweep: Mapping[str, Any],
    candidates: list[Candidate],
    checklists: Mapping[str, dict[str, Any]],
    table: list[Row],
    drawn: Mapping[str, dict[str, str]],
    key: Key,
    signs: list[signatures.Record],
    studies: list[dict[str, Any]],
    scaled: dict[str, Any] | None,
    ratios: list[Ratio],
    pools: Mapping[str, dict[str, Any]],
    dense: Mapping[str, dict[str, Any]],
) -> str:
    """Return the page of a sweep as HTML that needs nothing else.

    Parameters
    ----------
    sweep : ``name`` and optionally ``description``.
    candidates : all candidates, in order.
    checklists : candidate key -> checklist.
    table : the comparison's rows.
    drawn : data set -> figure name -> SVG document.
    key : the colours of recipes and markers of models.
    signs : of `edgeward.reporting.signatures.of_sweep`.
    studies : of `edgeward.reporting.ranks.studies`.
    scaled : of `edgeward.reporting.scaling.section`; None without sizes.
    ratios : of `edgeward.reporting.interleaved.load`.
    pools : data set -> content of its pooled assessment, in a sweep with several seeds.
    dense : data set for segmentation -> ``galleries`` of `edgeward.reporting.overlays`, ``wholes`` of
        `edgeward.reporting.volumes` and the figure of them (SVG document; empty in the plane).
    """
    groups = [
        _group(data, members, table, drawn[data], i, signs, studies, ratios)
        | {"pooled": pools.get(data), "dense": _dense(dense.get(data), i)}
        for i, (data, members) in enumerate(by_data(candidates).items())
    ]
    return (
        _environment(True)
        .get_template("page.html.j2")
        .render(
            sweep=sweep,
            groups=groups,
            head=headline(candidates, own_reference(ratios)),
            checklists=checklists,
            references={
                c.key: r for c in candidates if (r := reference_of(c, candidates)) is not None
            },
            colours=key.names,
            heat=heat,
            sign_titles=signatures.TITLES,
            signs_of=lambda c, device: signatures.of_candidate(c, device, signs),
            predictors=ranks.PREDICTORS,
            light=palette.LIGHT,
            dark=palette.DARK,
            version=edgeward.__version__,
            devices=sorted({d for c in candidates for d in c.profiles}),
            n=len(candidates),
            scaling=scaled
            and {**scaled, "figure": Markup(svg.inline(scaled["figure"], "scaling"))},
        )
    )
