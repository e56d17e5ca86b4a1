"""The end summary in the terminal: one row per candidate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import shorten, wrap
from typing import TYPE_CHECKING

from edgeward.core.text import fixed, listing, milliseconds, span
from edgeward.records.base import Interval
from edgeward.records.failure import Missing
from edgeward.records.safety import Pooled
from edgeward.reporting.comparison import Row, columns, rows
from edgeward.reporting.load import Candidate
from edgeward.reporting.numbers import bracket
from edgeward.reporting.sweep import Sweep
from edgeward.tasks.base import Metric

if TYPE_CHECKING:
    from edgeward.pipeline.paths import ResultPaths

WIDTH = 120
SYMBOLS = {"pass": "+", "fail": "x", "inconclusive": "?", "reference": "="}
REASON = 300  # characters of a failure; the rest is on the page
NUMERIC = ("p50 / p90 ms", "x ref", "size MB")
LEAST = 8  # characters that a text column keeps, however narrow the rest


def table(
    candidates: Iterable[ResultPaths],
    turns: Iterable[Path] = (),
    pooled: Iterable[Path] = (),
    missing: Sequence[Missing] = (),
    everything: int | None = None,
) -> str:
    """Return the table for the terminal, at most 120 columns wide.

    It also serves a sweep that stopped half way: a candidate that lacks a file is counted below
    the table, and one that was not profiled yet has no latency.

    Parameters
    ----------
    candidates : as given to `edgeward.reporting.stage.run`.
    turns, pooled : comparisons in turns and pooled seeds; a file that is not there (yet) is left out.
    missing : what failures keep from the sweep; each is told below the table, with its reason.
    everything : how many candidates the sweep has, if `candidates` are only those that are done.

    Raises
    ------
    UserError
        If a file is broken.
    """
    entries = [_present(entry) for entry in candidates]
    finished = [entry for entry in entries if entry is not None]
    everything = everything or len(entries)
    lost = len({(m.data, m.model, m.seed, m.recipe) for m in missing if m.device is None})
    left = everything - len(finished) - lost
    if finished:
        text = render(Sweep.read(finished, [path for path in turns if path.is_file()]))
        text += _over_folds([Pooled.read(path) for path in pooled if path.is_file()])
    else:
        text = "No candidate is finished.\n"
    text += f"{left} of {everything} candidates not finished.\n" if left else ""
    return text + _failures(missing)


def _failures(missing: Sequence[Missing]) -> str:
    """Return two lines for each failure: what is missing, and why."""
    if not missing:
        return ""
    several = {key for key in ("data", "seed") if len({getattr(m, key) for m in missing}) > 1}
    lines = ["", f"Failed ({len(missing)}):"]
    for reason, alike in _by_reason(missing).items():
        names = [
            " ".join([m.name, *(f"({m.data})" for _ in several & {"data"}), *(f"seed {m.seed}" for _ in several & {"seed"}),
                      *([f"on {m.device}"] if m.device else [])])
            for m in alike
        ]  # fmt: skip
        lines += [f"! failed: {listing(names)}", *_wrapped(reason)]
        lines += _wrapped(" ".join(dict.fromkeys(c.remedy for m in alike for c in m.causes)))
    return "\n".join(lines) + "\n"


def _by_reason(missing: Sequence[Missing]) -> dict[str, list[Missing]]:
    found: dict[str, list[Missing]] = {}
    for one in missing:
        found.setdefault(one.reason, []).append(one)
    return found


def _wrapped(text: str) -> list[str]:
    return wrap(
        shorten(text, REASON, placeholder=" …"),
        WIDTH,
        initial_indent="    ",
        subsequent_indent="    ",
    )


def _over_folds(pools: Iterable[Pooled]) -> str:
    """Return a line for the verdict on each recipe of cross-validated data."""
    lines = [
        f"{SYMBOLS[row.verdict.verdict]} {row.verdict.verdict}: {row.model} {row.recipe} over {len(pool.seeds)} folds of "
        f"{pool.data} ({pool.n['test']} cases of {pool.n['groups']} groups).\n"
        for pool in pools
        for row in pool.verdicts
    ]
    return "".join(lines)


def _present(paths: ResultPaths) -> ResultPaths | None:
    """Return the paths less the profiles that are not there, or None if another file is missing."""
    measured = tuple(device for device, path in paths.profiles.items() if path.is_file())
    needed = (
        paths.prepare.card,
        paths.compress.record,
        paths.export.parity,
        paths.assess.safety,
        paths.assess.verdict,
    )
    deciding = tuple(device for device, at in paths.decided.items() if at.verdict.is_file())
    return (
        replace(paths, devices=measured, deciding=deciding)
        if all(p.is_file() for p in needed)
        else None
    )


def render(sweep: Sweep) -> str:
    """Return the tables of a sweep, one for each task."""
    comparison = rows(sweep)
    tasks = dict.fromkeys(c.task.name for c in sweep.candidates)
    return "\n".join(
        _render(
            [c for c in sweep.candidates if c.task.name == name],
            [row for row in comparison if row.task == name],
        )
        for name in tasks
    )


def _render(candidates: list[Candidate], comparison: list[Row]) -> str:
    task = candidates[0].task
    metrics = columns(candidates, task.brief)
    varying = [
        key
        for key in ("data", "seed", "device")
        if len({getattr(row, key) for row in comparison} - {None}) > 1
    ]
    header = [*(k for k in varying if k == "data"), "model", "recipe"]
    header += [k for k in varying if k != "data"]
    texts = len(header) + 1
    titles = [*header, "verdict", *NUMERIC, *(metric.short for metric in metrics)]
    for ends in (task.primary, ""):  # its interval only where there is room for it
        body = [_cells(row, header, metrics, ends) for row in comparison]
        lines = _align([titles, *body], texts)
        if max(map(len, lines)) <= WIDTH:
            break
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join([*lines, "", *_notes(candidates, comparison)]) + "\n"


def _cells(row: Row, header: list[str], metrics: list[Metric], ends: str) -> list[str]:
    invalid = "!" if row.timing == "INVALID" else " "
    latency = f"{milliseconds(row.p50_ms.estimate)} / {milliseconds(row.p90_ms.estimate)}{invalid}"
    quoted = row.quoted
    mark = "!" if quoted.timing == "INVALID" else "~" if _apart(row) else " "
    speed = fixed(quoted.factor.estimate, 2) + mark
    named = (getattr(row, key) for key in header)
    return [
        *("–" if value is None else str(value) for value in named),
        f"{SYMBOLS[row.verdict]} {row.verdict}",
        "refused " if row.timing == "REFUSED" else latency,
        "1 " if row.verdict == "reference" and row.timing != "REFUSED" else speed,
        fixed(row.file_mb, 2),
        *(_value(row.metrics[m.name], m.digits, ends == m.name) for m in metrics),
    ]


def _apart(row: Row) -> bool:
    """Tell whether a speed-up is of two separate timings."""
    return row.quoted.factor.known and not row.quoted.in_turns


def _value(value: Interval, digits: int, ends: bool) -> str:
    """Return a metric, with its interval if asked for."""
    text = fixed(value.estimate, digits)
    return f"{text} {bracket(value, digits)}".rstrip() if ends else text


def _align(grid: list[list[str]], texts: int) -> list[str]:
    """Pad columns; shorten the widest of the first `texts` columns until the line fits."""
    widths = [max(len(line[i]) for line in grid) for i in range(len(grid[0]))]
    while sum(widths) + 2 * (len(widths) - 1) > WIDTH:
        widest = max(range(texts - 1), key=lambda i: widths[i])
        if widths[widest] <= LEAST:
            break
        widths[widest] -= 1
    lines = []
    for line in grid:
        cells = [
            cell if len(cell) <= width else cell[: width - 1] + "…"
            for cell, width in zip(line, widths, strict=True)
        ]
        padded = [
            cell.ljust(width) if i < texts else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    longest = max(map(len, lines))
    return [lines[0].ljust(longest), *lines[1:]]


def _notes(candidates: list[Candidate], comparison: list[Row]) -> list[str]:
    measured = [row for row in comparison if row.timing not in (None, "REFUSED")]
    notes = [f"Doubtful: {c.model} {c.recipe}: {doubt}" for c in candidates for doubt in c.doubts]
    for device in dict.fromkeys(row.device for row in measured):
        mine = [row for row in measured if row.device == device]
        threads, batch, warmup, n = (
            span(getattr(row, key) for row in mine)
            for key in ("threads", "batch", "warmup", "n_timed")
        )
        notes.append(
            f"Latency on {device}: {threads} thread{'' if threads == '1' else 's'}, batch {batch}, "
            f"warm-up {warmup}, {n} timed inferences."
        )
    several = len({c.seed for c in candidates}) > 1
    for c in candidates:
        named = f"{c.model} {c.recipe}" + (f" seed {c.seed}" if several else "")
        notes += [
            f"Decided on {device}: {named}: {found.verdict.verdict}; as the host in "
            f"{fixed(found.on.agreement.estimate)} of {found.safety.n['test']} cases."
            for device, found in c.decided.items()
        ]
        if c.verdict.also_lost:
            lost = ", ".join(
                f"{loss.name} {fixed(loss.difference.estimate, signed=True)}"
                for loss in c.verdict.also_lost
            )
            notes.append(f"Also lost, outside the endpoints: {named}: {lost}.")
    firsts = {c.data: c for c in reversed(candidates)}
    notes += [
        f"Safety on {data}: {firsts[data].sample}; reasons are in the report."
        for data in dict.fromkeys(c.data for c in candidates)
    ]
    if any(row.paired_speedup.known for row in measured):
        notes.append("x ref is from inferences in turns with the reference, in one process.")
    if any(_apart(row) for row in measured):
        notes.append(
            "~ x ref is of two timings, minutes apart: the machine may have changed between."
        )
    if any(row.timing == "REFUSED" for row in comparison):
        notes.append("refused: the engine cannot load the model; the report says why.")
    if any(row.timing == "INVALID" for row in measured):
        notes.append("! the timing is INVALID: do not use it; the report says why.")
    return notes
