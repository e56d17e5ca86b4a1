"""What the verdicts allow one to say, in sentences. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edgeward.reporting.comparison import Ratios, speed
from edgeward.reporting.load import Candidate, reference_of
from edgeward.reporting.numbers import bracket, count, fixed, interval, listing, plural

ORDER = ("pass", "inconclusive", "fail")


@dataclass(frozen=True)
class Finding:
    """One compressed candidate in one or two sentences."""

    candidate: Candidate
    outcome: str
    text: str


@dataclass(frozen=True)
class Headline:
    """What can be deployed, and what stands in the way."""

    lead: str
    counts: dict[str, int]
    findings: list[Finding] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)


def headline(candidates: list[Candidate], paired: Ratios) -> Headline:
    """Return the sentences at the head of the page, computed from verdicts and timings alone.

    Parameters
    ----------
    paired : of `edgeward.reporting.interleaved.own_reference`.
    """
    compressed = [c for c in candidates if not c.is_reference]
    counts = {name: sum(c.outcome == name for c in compressed) for name in ORDER}
    findings = [
        Finding(c, c.outcome, _finding(c, candidates, paired))
        for name in ORDER
        for c in compressed
        if c.outcome == name
    ]
    return Headline(_lead(counts, len(candidates)), counts, findings, _caveats(candidates))


def _lead(counts: dict[str, int], everything: int) -> str:
    n = sum(counts.values())
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


def _finding(candidate: Candidate, candidates: list[Candidate], paired: Ratios) -> str:
    endpoints = candidate.verdict["endpoints"]
    if candidate.outcome == "pass":
        text = f"Within the margin on {plural(len(endpoints), 'endpoint')}."
        return " ".join([text, *_gain(candidate, candidates, paired)])
    failed = [e for e in endpoints if e["outcome"] == "fail"]
    open_ = [e for e in endpoints if e["outcome"] == "inconclusive"]
    sentences = [_loss(e) for e in failed]
    if open_:
        sentences.append(f"Not decided: {listing([_undecided(e) for e in open_])}.")
    return " ".join(sentences or map(str, candidate.verdict["reasons"]))


def _loss(endpoint: dict[str, Any]) -> str:
    """Say by how much an endpoint got worse."""
    before, after = (interval(endpoint[key]).estimate for key in ("reference", "compressed"))
    change = interval(endpoint["difference"])
    name = str(endpoint["name"])
    return (
        f"{name[:1].upper()}{name[1:]}: {fixed(before)} → {fixed(after)}, difference "
        f"{fixed(change.estimate, signed=True)} {bracket(change, signed=True)}, margin "
        f"{endpoint['margin']:g}."
    )


def _undecided(endpoint: dict[str, Any]) -> str:
    """Name an endpoint with the number of cases that would probably decide it."""
    needed = interval(endpoint.get("cases_needed")).estimate
    if needed is None:
        return str(endpoint["name"])
    what = "small lesions" if endpoint["metric"] == "small_lesion_sensitivity" else "cases"
    return f"{endpoint['name']} (takes about {count(needed)} {what}, has {count(endpoint['n'])})"


def _gain(candidate: Candidate, candidates: list[Candidate], paired: Ratios) -> list[str]:
    reference = reference_of(candidate, candidates)
    if reference is None:
        return [
            "Its reference is not in this sweep, so speed and size have nothing to compare with."
        ]
    sentences = []
    for device in candidate.profiles:
        found = speed(candidate, device, candidates, paired)
        if candidate.refusal(device) is not None:
            sentences.append(f"The engine of {device} refuses it.")
        elif found is None:
            sentences.append(f"Speed on {device} has no counterpart to compare with.")
        elif not found.valid:
            sentences.append(f"The timing on {device} is INVALID, so nothing is said about speed.")
        else:
            gain = found.factor
            low, high = gain.low or gain.estimate, gain.high or gain.estimate
            assert low is not None
            assert high is not None
            factor = f"{fixed(gain.estimate, 2)}× {bracket(gain, 2)}".rstrip()
            factor += ", in turns" if found.in_turns else ""
            if low > 1:
                sentences.append(f"Speed on {device} against the reference: {factor}.")
            elif high < 1:
                sentences.append(f"It is slower than the reference on {device}: {factor}.")
            else:
                sentences.append(f"Not measurably faster on {device}: {factor}.")
    sizes = [_bytes(c) for c in (candidate, reference)]
    if sizes[0] and sizes[1]:
        sentences.append(f"{sizes[0] / 1e6:.2f} MB instead of {sizes[1] / 1e6:.2f} MB.")
    return sentences or ["It was not profiled."]


def _bytes(candidate: Candidate) -> float | None:
    for profile in candidate.profiles.values():
        return interval(profile["model"].get("file_bytes")).estimate
    return None


def _listed_measures(candidates: list[Candidate]) -> str:
    """Name what is to be read per class, for the tasks on the page."""
    segments = dict.fromkeys(c.task.segments for c in candidates)
    return listing(["Dice" if s else "sensitivity" for s in segments])


def _caveats(candidates: list[Candidate]) -> list[str]:
    caveats = []
    if any(not c.is_reference for c in candidates):
        caveats.append(
            "A pass says that compression lost nothing beyond the margins. It does not say that the "
            f"reference is good enough: read its {_listed_measures(candidates)} per class."
        )
    for c in candidates:
        if c.is_reference:
            # A class that a segmentation misses altogether matters whether it is rare or not.
            watched = c.safety["classes" if c.task.segments else "rare_classes"]
            rare = [str(name) for name in watched]
            caveats += [
                f"{c.model} {c.recipe} on {c.data}: {reason}"
                for reason in c.verdict["reasons"]
                if any(name in reason for name in rare)
            ]
    timings = [t for c in candidates for device in c.profiles if (t := c.timing(device))]
    invalid = sum(not t.valid for t in timings)
    if invalid:
        caveats.append(
            f"{plural(invalid, 'timing')} of {len(timings)} INVALID: measure again before use."
        )
    refusals: dict[tuple[str, str], list[str]] = {}
    for c in candidates:
        for device, reason in c.refusals.items():
            refusals.setdefault((device, reason), []).append(f"{c.model} {c.recipe}")
    caveats += [
        f"The engine of {device} refuses {listing(list(dict.fromkeys(names)))}: {reason}"
        for (device, reason), names in refusals.items()
    ]
    orphans = [c.key for c in candidates if reference_of(c, candidates) is None]
    if orphans:
        caveats.append(f"No reference in this sweep for {listing(orphans)}.")
    for data, card in {c.data: c.card for c in candidates}.items():
        leaks = (card.get("leakage") or {}).get("findings")
        if leaks:
            caveats.append(
                f"Leakage findings in {data}: see its data card before believing a number."
            )
    return caveats
