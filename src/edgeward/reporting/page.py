"""The HTML page and the Markdown checklists: templates filled with what was read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import edgeward
from edgeward.core import palette, svg, text
from edgeward.records.base import Interval, Record
from edgeward.records.checklist import Checklist
from edgeward.records.explanation import SignatureRow
from edgeward.records.failure import Missing
from edgeward.records.parity import Parity
from edgeward.records.profile import NotMeasured
from edgeward.records.provenance import Provenance
from edgeward.records.safety import Pooled
from edgeward.reporting import numbers, ranks, signatures
from edgeward.reporting.comparison import OverSeeds, Row, columns, over_seeds
from edgeward.reporting.figures import Key
from edgeward.reporting.figures.common import per_device
from edgeward.reporting.figures.sustained import runs, said
from edgeward.reporting.headline import headline, question
from edgeward.reporting.load import Candidate, Timing
from edgeward.reporting.scaling import Section as Scaling
from edgeward.reporting.signatures import SweepSignature
from edgeward.reporting.sweep import Ratio, Sweep
from edgeward.reporting.tables import FORMATS
from edgeward.tasks.base import Metric
from edgeward.tasks.page import Section

LEAKS = {
    "shared_groups": "one group on several sides",
    "identical": "identical images",
    "near_identical": "nearly identical images",
    "contradictory": "identical images with several labels",
    "copies": "identical images on one side",
}
"""What an audit finds, by the kinds of `edgeward.data.audit.UNITS`."""

READS = ("templates/*",)  # read as files: see edgeward.pipeline.closure
OUTCOMES = {"pass": 0, "inconclusive": 1, "fail": 2, "reference": 3}  # as sorted
PARITY_LEFT_OUT = (
    "schema",
    "tolerance",
    "sensitivity",
    "unfused_vs_torch",
    "fused_vs_unfused",
    "batches",
)


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
        {name: getattr(text, name) for name in (
            "MISSING", "fixed", "milliseconds", "count", "short", "p_value", "plural", "listing", "span",
        )},
        bracket=numbers.bracket,
        bracket_ms=numbers.bracket_ms,
        symbol=palette.SYMBOLS,
        flat=flat,
        parity_figures=parity_figures,
    )  # fmt: skip
    environment.filters["md"] = markdown_cell
    return environment


def flat(value: Any, prefix: str = "", limit: int = 12) -> list[tuple[str, str]]:
    """Flatten nested records into (dotted key, text) pairs; long lists are cut and say so."""
    if isinstance(value, Interval):
        return [(prefix, f"{_scalar(value.estimate)} {numbers.bracket(value, 4)}".strip())]
    if isinstance(value, Record):
        value = {name: getattr(value, name) for name in value.content()}
    if isinstance(value, Mapping):
        return [
            pair
            for key, part in value.items()
            for pair in flat(part, f"{prefix}.{key}" if prefix else str(key), limit)
        ]
    if isinstance(value, list | tuple):
        if any(isinstance(item, Record | Mapping | list | tuple) for item in value):
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
        return text.MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def markdown_cell(value: Any) -> str:
    """Make text from data safe inside a Markdown table or list: no markup, no line break."""
    cell = " ".join(str(value).split())
    for sign, safe in (("\\", "\\\\"), ("`", "\\`"), ("*", "\\*"), ("](", "]\\("),
                       ("<", "&lt;"), ("|", "&#124;")):  # fmt: skip
        cell = cell.replace(sign, safe)
    return cell


def parity_figures(parity: Parity) -> dict[str, Any]:
    """Return what matters of a parity record: not its tolerances, nor how they were found."""
    return {key: value for key, value in parity.content().items() if key not in PARITY_LEFT_OUT}


def checklist_markdown(content: Checklist, candidate: Candidate) -> str:
    """Return the checklist of a candidate as Markdown."""
    template = _environment(False).get_template("checklist.md.j2")
    return template.render(
        c=content, task=candidate.task, case=candidate.case, sample=candidate.sample
    )


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

    def place(x: float) -> float:
        return round(50 + 48 * max(-1.0, min(1.0, x / reach)), 2)

    marks = dict(zip(("mid", "low", "high"), map(place, value), strict=True))
    return marks if margin is None else marks | {"margin": place(-abs(margin))}


def _margin(candidate: Candidate) -> float | None:
    """Return the margin on the primary metric: its endpoint's, or the one all rare classes share."""
    endpoints = candidate.verdict.endpoints
    own = {e.margin for e in endpoints if e.metric == candidate.task.primary}
    shared = own or {e.margin for e in endpoints if e.class_name in candidate.safety.rare_classes}
    return shared.pop() if len(shared) == 1 else None


@dataclass(frozen=True)
class Entry:
    """A line of the comparison; the difference of the primary metric with a small plot of it."""

    row: Row
    anchor: str
    weak: bool
    delta: Interval
    whisker: dict[str, float] | None


@dataclass(frozen=True)
class SignLine:
    """The signatures looked for on a candidate and device, by name."""

    candidate: Candidate
    device: str
    found: Mapping[str, SignatureRow | SweepSignature]


@dataclass(frozen=True)
class Group:
    """What the page shows of one data set."""

    data: str
    id: str
    candidates: list[Candidate]
    columns: list[Metric]
    entries: list[Entry]
    over_seeds: list[OverSeeds]
    pooled: Pooled | None
    measured: dict[str, list[Timing]]
    figures: dict[str, Markup]
    sections: list[tuple[Section, Markup]]
    in_turns: list[Ratio]
    studies: list[ranks.Study]
    signs: list[SignLine]
    missing: list[Missing]

    @property
    def trained(self) -> bool:
        """Whether a model was trained here; finished files were not."""
        return any(c.history for c in self.candidates)

    @property
    def first(self) -> Candidate:
        """A candidate to ask for what all share."""
        return self.candidates[0]

    @property
    def several_seeds(self) -> bool:
        """Whether models were trained more than once."""
        return len({c.seed for c in self.candidates}) > 1

    @property
    def several_devices(self) -> bool:
        """Whether anything was profiled on more than one device."""
        return len({entry.row.device for entry in self.entries}) > 1

    @property
    def compressed(self) -> bool:
        """Whether there is a candidate that is no reference."""
        return any(not c.is_reference for c in self.candidates)

    @property
    def apart(self) -> bool:
        """Whether a speed-up is of two timings that did not take turns."""
        quoted = [entry.row.quoted for entry in self.entries]
        return any(speed.factor.known and not speed.in_turns for speed in quoted)

    @property
    def paired(self) -> bool:
        """Whether any candidate took turns with its reference."""
        return any(entry.row.paired_speedup.known for entry in self.entries)

    @property
    def energetic(self) -> bool:
        """Whether the energy of any candidate was measured."""
        return any(entry.row.energy == "measured" for entry in self.entries)

    @property
    def below_even(self) -> bool:
        """Whether decisions weigh classes otherwise than confidences do, so that these may lie below 1 / classes."""
        return any(any(c.safety.logit_shift) for c in self.candidates)

    @property
    def sign_names(self) -> list[str]:
        """The signatures looked for."""
        return [
            name for name in signatures.TITLES if any(name in line.found for line in self.signs)
        ]

    @property
    def sustained(self) -> list[str]:
        """What runs of minutes showed, a sentence each."""
        return [
            said(candidate, device, run)
            for _, device, mine in per_device({self.data: self.candidates})
            if device
            for candidate, run in runs(mine, device)
        ]

    @property
    def energy_reasons(self) -> list[str]:
        """Per device why it has no energy figure, each reason once."""
        reasons: dict[str, dict[str, None]] = {}
        for candidate in self.candidates:
            for device, profile in candidate.profiles.items():
                if isinstance(profile.energy, NotMeasured):
                    reasons.setdefault(profile.energy.reason.rstrip("."), {})[device] = None
        return [f"on {', '.join(devices)}, {reason}" for reason, devices in reasons.items()]


def _entries(members: list[Candidate], table: list[Row]) -> list[Entry]:
    by_key = {(c.model, c.seed, c.recipe): c for c in members}
    shown = [(row, by_key[row.model, row.seed, row.recipe]) for row in table]
    deltas = [row.deltas[c.task.primary] for row, c in shown]
    ends = [abs(end) for delta in deltas for end in (delta.low, delta.high) if end is not None]
    margins = [m for c in members if (m := _margin(c)) is not None]
    reach = 1.1 * max([*ends, *margins, 0.0])
    return [
        Entry(row, c.key, bool(c.weak), delta, whisker(delta, _margin(c), reach))
        for (row, c), delta in zip(shown, deltas, strict=True)
    ]


def _devices(sweep: Sweep) -> list[str]:
    """Return every device with its processor, where the profile knows it."""
    found: dict[str, str] = {}
    for candidate in sweep.candidates:
        for device, profile in candidate.profiles.items():
            about = [profile.host.cpu, text.plural(profile.host.cores or 0, "core")]
            if profile.emulated:
                about.append("emulated")
            found.setdefault(
                device, f"{device} ({', '.join(a for a in about if a and a != '0 cores')})"
            )
    return [found[device] for device in sorted(found)]


def _measured(members: list[Candidate]) -> dict[str, list[Timing]]:
    """Return per device the timings that the comparison uses."""
    found: dict[str, list[Timing]] = {}
    for candidate in members:
        for device in candidate.profiles:
            if timing := candidate.timing(device):
                found.setdefault(device, []).append(timing)
    return found


def _signs(members: list[Candidate], over_sweep: list[SweepSignature]) -> list[SignLine]:
    return [
        SignLine(c, device, {s.name: s for s in found})
        for c in members
        for device in c.profiles
        if (found := signatures.of_candidate(c, device, over_sweep))
    ]


def _section(section: Section, at: str) -> Markup:
    """Return a section of a task as HTML, below its heading."""
    template = _environment(True).from_string(section.template)
    figure = Markup(svg.inline(section.figure, f"{at}-{section.name}")) if section.figure else ""
    return Markup(template.render(section.context, figure=figure, at=at))


def page(
    sweep: Sweep,
    *,
    out: Path,
    name: str,
    description: str,
    made: Provenance,
    checklists: Mapping[str, Checklist],
    table: Sequence[Row],
    drawn: Mapping[str, Mapping[str, str]],
    key: Key,
    signs: list[SweepSignature],
    studies: Sequence[ranks.Study],
    scaling: Scaling | None,
    pools: Mapping[str, Pooled],
    sections: Mapping[str, Sequence[Section]],
    tables: Sequence[str],
) -> str:
    """Return the page of a sweep as HTML that needs nothing else.

    Parameters
    ----------
    out : folder of the page, from which its links to results lead.
    name, description : of the sweep; the description may be empty.
    made : from what, with what and when the page is written.
    checklists : candidate key -> checklist.
    table : the comparison's rows.
    drawn : data set -> figure name -> SVG document.
    key : the colours of recipes and markers of models.
    signs : of `edgeward.reporting.signatures.of_sweep`.
    studies : of `edgeward.reporting.ranks.studies`.
    scaling : of `edgeward.reporting.scaling.section`; None without sizes.
    pools : data set -> its seeds pooled, in a sweep with several.
    sections : data set -> what its task adds.
    tables : names of those that lie beside the page in ``tables/``.
    """
    groups = []
    for i, (data, members) in enumerate(sweep.groups.items()):
        mine = [row for row in table if row.data == data]
        turns = [r for r in sweep.between_models if r.candidate.data == data]
        groups.append(
            Group(
                data=data,
                id=f"data-{i}",
                candidates=members,
                columns=columns(members, members[0].task.columns),
                entries=_entries(members, mine),
                over_seeds=over_seeds(mine),
                pooled=pools.get(data),
                measured=_measured(members),
                figures={n: Markup(svg.inline(d, f"f{i}-{n}")) for n, d in drawn[data].items()},
                sections=[(s, _section(s, f"data-{i}")) for s in sections.get(data, ())],
                in_turns=sorted(turns, key=lambda r: (r.device, r.value.estimate or 0)),
                studies=[study for study in studies if study.data == data],
                signs=_signs(members, signs),
                missing=[m for m in sweep.missing if m.data == data],
            )
        )
    return (
        _environment(True)
        .get_template("page.html.j2")
        .render(
            name=name,
            description=description,
            made=made,
            groups=groups,
            head=headline(sweep, pools),
            sweep=sweep,
            checklists=checklists,
            tasks=list({c.task.name: c.task for c in sweep.candidates}.values()),
            cases=list({c.case: None for c in sweep.candidates}),
            colours=key.names,
            heat=heat,
            leaks=LEAKS,
            order=OUTCOMES,
            sign_titles=signatures.TITLES,
            signs_of=lambda c, device: signatures.of_candidate(c, device, signs),
            light=palette.LIGHT,
            dark=palette.DARK,
            version=edgeward.__version__,
            question=question(sweep),
            devices=_devices(sweep),
            tables=tables,
            formats=FORMATS,
            linked=lambda path: Path(os.path.relpath(path, out)).as_posix(),
            scaling=scaling,
            scaling_figure=Markup(svg.inline(scaling.figure, "scaling")) if scaling else "",
        )
    )
