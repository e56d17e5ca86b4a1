"""What the verdicts allow one to say, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeward.core.text import count, fixed, listing, plural
from edgeward.records.safety import EndpointRow, Loss, Pooled, Verdict, VerdictWord
from edgeward.reporting.load import Candidate
from edgeward.reporting.numbers import bracket
from edgeward.reporting.sweep import Sweep
from edgeward.tasks.base import Task

ORDER: tuple[VerdictWord, ...] = ("pass", "inconclusive", "fail")


@dataclass(frozen=True)
class Finding:
    """One compressed candidate in one or two sentences; `warning`: why a pass may be worth little, or empty."""

    candidate: Candidate
    text: str
    warning: str


@dataclass(frozen=True)
class OverFolds:
    """One recipe over all folds of a cross-validation in one or two sentences."""

    name: str
    outcome: VerdictWord
    anchor: str
    text: str


@dataclass(frozen=True)
class Headline:
    """What can be deployed, and what stands in the way."""

    lead: str
    counts: dict[str, int]
    over_folds: list[OverFolds] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)


def headline(sweep: Sweep, pools: Mapping[str, Pooled] | None = None) -> Headline:
    """Return the sentences at the head of the page, computed from verdicts and timings alone.

    Parameters
    ----------
    pools : data set -> its seeds pooled.
    """
    counts = {str(name): sum(c.outcome == name for c in sweep.candidates) for name in ORDER}
    findings = [
        Finding(c, _finding(c, sweep), _weakness(c))
        for name in ORDER
        for c in sweep.candidates
        if c.outcome == name
    ]
    lead = _lead(counts, len(sweep.candidates))
    if weak := sum(c.outcome == "pass" and bool(c.weak) for c in sweep.candidates):
        lead += (
            f" But of {plural(weak, 'pass', 'passes')} the reference itself is weak: it finds less than half of a class that "
            "counts."
        )
    if lost := [m for m in sweep.missing if m.device is None]:
        lead += f" {plural(len(lost), 'candidate')} failed (below)."
    if doubtful := sum(bool(c.doubts) for c in sweep.candidates):
        lead += f" But first: {plural(doubtful, 'file')} may be taken otherwise than meant (below)."
    return Headline(lead, counts, _over_folds(sweep, pools or {}), findings, _caveats(sweep))


def question(sweep: Sweep) -> str:
    """Say what the sweep asks."""
    asked = list(dict.fromkeys(c.recipe for c in sweep.candidates if not c.is_reference))
    given = list(dict.fromkeys(c.recipe for c in sweep.candidates if c.is_reference))
    where = listing(list(sweep.groups))
    if not asked:
        models = list(dict.fromkeys(c.model for c in sweep.candidates))
        named = listing(models) if len(models) < 4 else f"{len(models)} models"
        return f"How good and how fast: {named} on {where}"
    if len(asked) > 3:
        what = f"one of {len(asked)} recipes"
    else:
        what = " or ".join([", ".join(asked[:-1]), asked[-1]] if len(asked) > 1 else asked)
    return f"May {what} replace {listing(given) or 'the reference'} on {where}?"


def _weakness(candidate: Candidate) -> str:
    """Say of a pass that its reference finds little."""
    if candidate.outcome != "pass" or not candidate.weak:
        return ""
    found = [
        f"{e.name} {fixed(e.reference.estimate, 2)} {bracket(e.reference, 2)}"
        for e in candidate.weak
    ]
    return f"The reference itself finds less than half: {listing(found)}. There was little to lose."


def _over_folds(sweep: Sweep, pools: Mapping[str, Pooled]) -> list[OverFolds]:
    found = []
    for i, (data, members) in enumerate(sweep.groups.items()):
        rows = pools[data].verdicts if data in pools else []
        for row in sorted(rows, key=lambda row: ORDER.index(row.verdict.verdict)):
            name = f"{row.model} · {row.recipe} · {len(pools[data].seeds)} folds of {data}"
            anchor = f"data-{i}-over-{row.model}-{row.recipe}"
            text = " ".join(_sentences(row.verdict, members[0].task))
            found.append(OverFolds(name, row.verdict.verdict, anchor, text))
    return found


def _lead(counts: dict[str, int], everything: int) -> str:
    n = sum(counts.values())
    if everything == 0:
        return "No candidate of this sweep was finished."
    if n == 0:
        return (
            f"No compressed candidate in this sweep, so there is no verdict: the page describes "
            f"{plural(everything, 'reference model')}."
        )
    passed, open_, failed = (counts[name] for name in ORDER)
    noun = "compressed candidate" if n == 1 else "compressed candidates"
    if n == 1:
        return {
            (1, 0, 0): f"The one {noun} may replace its reference: no loss beyond the margins.",
            (0, 1, 0): f"The one {noun} cannot be cleared: the evidence does not decide.",
            (0, 0, 1): f"The one {noun} must not replace its reference: it is shown to be worse.",
        }[passed, open_, failed]
    if passed == n:
        return f"All {n} {noun} may replace their references: no loss beyond the margins."
    if passed:
        first = f"{passed} of {n} {noun} may replace {'its reference' if passed == 1 else 'their references'}"
    else:
        first = f"None of the {n} {noun} can be cleared for use"
    rest = []
    if failed:
        rest.append(f"{failed} {'is' if failed == 1 else 'are'} shown to be worse")
    if open_:
        rest.append(f"for {open_} the evidence does not decide")
    return f"{first}; {listing(rest)}."


def _finding(candidate: Candidate, sweep: Sweep) -> str:
    gain = _gain(candidate, sweep) if candidate.outcome == "pass" else []
    decided = [
        f"By what {device} decides: {found.verdict.verdict}."
        for device, found in candidate.decided.items()
    ]
    return " ".join([*_sentences(candidate.verdict, candidate.task), *decided, *gain])


def _sentences(verdict: Verdict, task: Task) -> list[str]:
    """Say what a verdict rests on."""
    endpoints = verdict.endpoints
    outside = [_outside(loss) for loss in verdict.also_lost]
    also = [f"Also lost, outside the endpoints: {listing(outside)}."] if outside else []
    if verdict.verdict == "pass":
        return [f"Within the margin on {plural(len(endpoints), 'endpoint')}.", *also]
    sentences = [_loss(e) for e in endpoints if e.outcome == "fail"]
    if open_ := [_undecided(e, task) for e in endpoints if e.outcome == "inconclusive"]:
        sentences.append(f"Not decided: {listing(open_)}.")
    return [*(sentences or verdict.reasons), *also]


def _outside(loss: Loss) -> str:
    """Say by how much a class lost that no endpoint looks at."""
    change = loss.difference
    return f"{loss.name} ({fixed(change.estimate, signed=True)} {bracket(change, signed=True)})"


def _loss(endpoint: EndpointRow) -> str:
    """Say by how much an endpoint got worse, or lies beyond its floor."""
    if endpoint.floor is not None:
        return (
            f"{endpoint.name[:1].upper()}{endpoint.name[1:]}: {fixed(endpoint.compressed.estimate)} "
            f"{bracket(endpoint.compressed)}, asked for {endpoint.floor:g}."
        )
    before, after, change = endpoint.reference, endpoint.compressed, endpoint.difference
    return (
        f"{endpoint.name[:1].upper()}{endpoint.name[1:]}: {fixed(before.estimate)} → "
        f"{fixed(after.estimate)}, difference {fixed(change.estimate, signed=True)} "
        f"{bracket(change, signed=True)}, margin {endpoint.margin:g}."
    )


def _undecided(endpoint: EndpointRow, task: Task) -> str:
    """Name an endpoint with the number of cases that would probably decide it."""
    name = f"{endpoint.name}, worse for sure" if endpoint.surely_worse else endpoint.name
    if endpoint.cases_needed is None:
        return name
    of = {m.name: m.of for m in task.metrics}.get(endpoint.metric, "cases")
    return f"{name} (takes about {count(endpoint.cases_needed)} {of}, has {count(endpoint.n)})"


def _gain(candidate: Candidate, sweep: Sweep) -> list[str]:
    reference = sweep.reference(candidate)
    if reference is None:
        return [
            "Its reference is not in this sweep, so speed and size have nothing to compare with."
        ]
    sentences = [_speed(candidate, device, sweep) for device in candidate.profiles]
    sizes = [_bytes(c) for c in (candidate, reference)]
    if sizes[0] and sizes[1]:
        sentences.append(f"{sizes[0] / 1e6:.2f} MB instead of {sizes[1] / 1e6:.2f} MB.")
    return sentences or ["It was not profiled."]


def _speed(candidate: Candidate, device: str, sweep: Sweep) -> str:
    found = sweep.speed(candidate, device)
    if device in candidate.refusals:
        return f"The engine of {device} refuses it."
    if found is None:
        return f"Speed on {device} has no counterpart to compare with."
    if not found.valid:
        what = "comparison in turns" if found.in_turns else "timing"
        return f"The {what} on {device} is INVALID, so nothing is said about speed."
    gain = found.factor
    estimate = gain.estimate or 0.0
    factor = f"{fixed(gain.estimate, 2)}× {bracket(gain, 2)}".rstrip()
    factor += ", in turns" if found.in_turns else ""
    if (gain.low or estimate) > 1:
        return f"Speed on {device} against the reference: {factor}."
    if (gain.high or estimate) < 1:
        return f"It is slower than the reference on {device}: {factor}."
    return f"Not measurably faster on {device}: {factor}."


def _bytes(candidate: Candidate) -> int | None:
    return next((profile.model.file_bytes for profile in candidate.profiles.values()), None)


def _caveats(sweep: Sweep) -> list[str]:
    candidates = sweep.candidates
    caveats = [
        f"{c.model} · {c.recipe}: {doubt[:1].upper()}{doubt[1:].rstrip('?.')}{'?' if doubt.endswith('?') else '.'}"
        for c in candidates
        for doubt in c.doubts
    ]
    if any(not c.is_reference for c in candidates):
        measures = dict.fromkeys(c.task.metric(c.task.class_difference).label for c in candidates)
        caveats.append(
            "A pass says that compression lost nothing beyond the margins. It does not say that the "
            f"reference is good enough: read its {listing(list(measures))} for each class."
        )
    caveats += [
        f"{c.model} {c.recipe} on {c.data}: {reason}"
        for c in candidates
        if c.is_reference
        for reason in c.verdict.reasons[1:]  # the first says that it is the reference
    ]
    timings = [t for c in candidates for device in c.profiles if (t := c.timing(device))]
    invalid = sum(not t.valid for t in timings)
    turns = [
        s
        for c in candidates
        for device in c.profiles
        if (s := sweep.in_turns(c, device)) is not None
    ]
    unsettled = sum(not s.valid for s in turns)
    of = [f"{invalid} of {plural(len(timings), 'timing')}"] * bool(invalid)
    of += [f"{unsettled} of {plural(len(turns), 'comparison')} in turns"] * bool(unsettled)
    if of:
        caveats.append(f"INVALID: {listing(of)}. Measure again before use.")
    refusals: dict[tuple[str, str], list[str]] = {}
    for c in candidates:
        for device, reason in c.refusals.items():
            refusals.setdefault((device, reason), []).append(f"{c.model} {c.recipe}")
    caveats += [
        f"The engine of {device} refuses {listing(list(dict.fromkeys(names)))}: {reason}"
        for (device, reason), names in refusals.items()
    ]
    caveats += [f"{said[:1].upper()}{said[1:].rstrip('.')}." for said in sweep.besides]
    orphans = [c.key for c in candidates if sweep.reference(c) is None]
    if orphans:
        caveats.append(f"No reference in this sweep for {listing(orphans)}.")
    caveats += [
        f"Leakage findings in {data}: see its data card before believing a number."
        for data, members in sweep.groups.items()
        if members[0].card.leakage.findings
    ]
    return caveats
