"""The end summary in the terminal: one row per candidate. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeward.reporting import interleaved
from edgeward.reporting.comparison import Ratios, Row, rows
from edgeward.reporting.load import Candidate, documents, load_all
from edgeward.reporting.numbers import Interval, bracket, fixed, interval, milliseconds, span
from edgeward.reporting.tasks import Metric, Task

if TYPE_CHECKING:
    from edgeward.pipeline.paths import ResultPaths

WIDTH = 120
SYMBOLS = {"pass": "+", "fail": "x", "inconclusive": "?", "reference": "="}
NUMERIC = ("p50 / p90 ms", "x ref", "size MB")
SHORT = {
    "auc_macro": "AUC",
    "rare_recall": "rare recall",
    "ece": "ECE",
    "dice": "Dice",
    "hd95": "HD95",
    "small_lesion_sensitivity": "small",
    "boundary_ece": "rim ECE",
}
LEAST = 8  # characters that a text column keeps, however narrow the rest


def table(candidates: Iterable[ResultPaths], turns: Iterable[Path] = ()) -> str:
    """Return the table for the terminal, at most 120 columns wide.

    It also serves a sweep that stopped half way: a candidate that lacks a file is counted below
    the table, and one that was not profiled yet has no latency.

    Parameters
    ----------
    candidates : as given to `edgeward.reporting.stage.run`.
    turns : comparisons in turns; a file that is not there (yet) is left out.

    Raises
    ------
    UserError
        If a file is broken.
    """
    entries = [_present(entry) for entry in candidates]
    finished = [entry for entry in entries if entry is not None]
    left = len(entries) - len(finished)
    if not finished:
        text = "No candidate is finished.\n"
    else:
        loaded = load_all(finished)
        ratios = interleaved.load([path for path in turns if path.is_file()], loaded)
        text = render(loaded, interleaved.own_reference(ratios))
    return text + (f"{left} of {len(entries)} candidates not finished.\n" if left else "")


def _present(paths: ResultPaths) -> ResultPaths | None:
    """Return the paths less the profiles that are not there, or None if another file is missing."""
    measured = tuple(device for device, path in paths.profiles.items() if path.is_file())
    needed = (*documents(paths).values(), paths.train.history)
    return replace(paths, devices=measured) if all(p.is_file() for p in needed) else None


def render(candidates: list[Candidate], paired: Ratios) -> str:
    """Return the tables, one for each task, of candidates that are already read."""
    tasks = dict.fromkeys(c.task for c in candidates)
    return "\n".join(
        _render(task, [c for c in candidates if c.task is task], paired) for task in tasks
    )


def _render(task: Task, candidates: list[Candidate], paired: Ratios) -> str:
    comparison = rows(candidates, paired)
    metrics = [
        task.column(name)
        for name in task.brief
        if name != "small_lesion_sensitivity" or any(row[name] is not None for row in comparison)
    ]
    varying = [
        key
        for key in ("data", "seed", "device")
        if len({row[key] for row in comparison if row[key] is not None}) > 1
    ]
    header = [*(k for k in varying if k == "data"), "model", "recipe"]
    header += [k for k in varying if k != "data"]
    texts = len(header) + 1
    titles = [*header, "verdict", *NUMERIC, *(SHORT[metric.name] for metric in metrics)]
    for ends in (True, False):  # the interval of Dice only where there is room for it
        body = [_cells(row, header, metrics, ends) for row in comparison]
        lines = _align([titles, *body], texts)
        if max(map(len, lines)) <= WIDTH:
            break
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join([*lines, "", *_notes(candidates, comparison)]) + "\n"


def _cells(row: Row, header: list[str], metrics: list[Metric], ends: bool) -> list[str]:
    invalid = "!" if row["timing"] == "INVALID" else " "
    latency = f"{milliseconds(row['p50_ms'])} / {milliseconds(row['p90_ms'])}{invalid}"
    kind = "" if row["paired_speedup"] is None else "paired_"
    timing = row["paired_timing" if kind else "speedup_timing"]
    mark = "!" if timing == "INVALID" else "~" if _apart(row) else " "
    speed = fixed(row[f"{kind}speedup"], 2) + mark
    return [
        *(str(row[key] if row[key] is not None else "–") for key in header),
        f"{SYMBOLS[row['verdict']]} {row['verdict']}",
        "refused " if row["timing"] == "REFUSED" else latency,
        "1 " if row["verdict"] == "reference" and row["timing"] != "REFUSED" else speed,
        fixed(row["file_mb"], 2),
        *(_value(row, metric, ends and metric.name == "dice") for metric in metrics),
    ]


def _apart(row: Row) -> bool:
    """Tell whether a speed-up is of two separate timings."""
    return row["paired_speedup"] is None and row["speedup"] is not None


def _value(row: Row, metric: Metric, ends: bool) -> str:
    """Return a metric, with its interval if asked for."""
    name = metric.name
    text = fixed(row[name], metric.digits)
    if not ends:
        return text
    found = Interval(row[name], row[f"{name}_low"], row[f"{name}_high"])
    return f"{text} {bracket(found)}".rstrip()


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


def _sample(row: Row) -> str:
    if "n_rare" in row:
        return f"{row['n_test']} test images, {row['n_rare']} of rare classes"
    lesions = f"{row['n_lesions']} lesions, {row['n_small_lesions']} of them small"
    return f"{row['n_test']} test cases of {row['n_groups']} groups, {lesions}"


def _notes(candidates: list[Candidate], comparison: list[Row]) -> list[str]:
    measured = [row for row in comparison if row["timing"] not in (None, "REFUSED")]
    notes = []
    for device in dict.fromkeys(row["device"] for row in measured):
        mine = [row for row in measured if row["device"] == device]
        threads, batch, warmup, n = (
            span(interval(row[key]).estimate for row in mine)
            for key in ("threads", "batch", "warmup", "n_timed")
        )
        notes.append(
            f"Latency on {device}: {threads} thread{'' if threads == '1' else 's'}, batch {batch}, "
            f"warm-up {warmup}, {n} timed inferences."
        )
    for data in dict.fromkeys(c.data for c in candidates):
        row = next(r for r in comparison if r["data"] == data)
        notes.append(f"Safety on {data}: {_sample(row)}; intervals and reasons are in the report.")
    if any(row["paired_speedup"] is not None for row in measured):
        notes.append("x ref is from inferences in turns with the reference, in one process.")
    if any(_apart(row) for row in measured):
        notes.append(
            "~ x ref is of two timings, minutes apart: the machine may have changed between."
        )
    if any(row["timing"] == "REFUSED" for row in comparison):
        notes.append("refused: the engine cannot load the model; the report says why.")
    if any(row["timing"] == "INVALID" for row in measured):
        notes.append("! the timing is INVALID: do not use it; the report says why.")
    return notes
