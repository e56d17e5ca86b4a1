"""Every table of the page as files for others: CSV, LaTeX and Parquet, of all data sets of the sweep in one.

CSV and Parquet hold every number in full, of an interval three columns. LaTeX is for print: an interval is one cell, and what
is the same in every row stands above the table instead of in a column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from edgeward.core.io import atomic
from edgeward.core.text import MISSING, fixed
from edgeward.records.base import Interval, Record
from edgeward.records.safety import Pooled
from edgeward.reporting.comparison import (
    Line,
    OverSeeds,
    Range,
    Row,
    Value,
    flat,
    over_seeds,
    to_csv,
)
from edgeward.reporting.load import Candidate
from edgeward.reporting.numbers import bracket
from edgeward.reporting.ranks import Study
from edgeward.reporting.scaling import Cell, Crossover
from edgeward.reporting.signatures import SweepSignature
from edgeward.reporting.sweep import Sweep

Table = list[Line]
# Of the comparison's own columns LaTeX has what the page shows; CSV and Parquet have all.
PRINTED = {"data", "model", "recipe", "seed", "device", "verdict", "timing", "p50_ms", "p90_ms", "speedup",
           "paired_speedup", "energy_net_mj", "peak_memory_mb", "file_mb"}  # fmt: skip
FORMATS = {"csv": "CSV", "tex": "LaTeX", "parquet": "Parquet"}


def of_sweep(
    sweep: Sweep,
    table: Sequence[Row],
    signs: Iterable[SweepSignature],
    studies: Iterable[Study],
    pools: Mapping[str, Pooled],
    cells: Iterable[Cell],
    crossings: Iterable[Crossover],
) -> dict[str, Table]:
    """Return the tables of the page by name, those without a row left out.

    Parameters
    ----------
    table : the comparison. The others : as on the page.
    """
    everyone = sweep.candidates
    found: dict[str, Table] = {
        "comparison": [row.line() for row in table],
        "classes": _of(everyone, _classes),
        "confusion": _of(everyone, _confusion),
        "endpoints": _of(everyone, lambda c: map(_plain, c.verdict.endpoints)),
        "also_lost": _of(everyone, lambda c: map(_plain, c.verdict.also_lost)),
        "decisions": _of(everyone, lambda c: map(_plain, c.verdict.decisions)),
        "subgroups": _of(everyone, lambda c: map(_plain, c.verdict.strata)),
        "corruptions": _of(everyone, lambda c: map(_plain, c.verdict.corruptions)),
        "timings": _of(everyone, _timings),
        "operators": _of(everyone, _operators),
        "signatures": [*_of(everyone, _signatures), *map(_plain, signs)],
        "models_in_turns": [
            {"data": r.candidate.data, "device": r.device, "model": r.candidate.model, "recipe": r.candidate.recipe,
             "reference": r.reference.model, "latency_ms": r.latency, "ratio": r.value, "rounds": r.rounds,
             "timing": "VALID" if r.valid else "INVALID"}
            for r in sweep.between_models
        ],
        "seeds": [
            {"data": data, **_seeds(line)}
            for data in sweep.groups
            for line in over_seeds(row for row in table if row.data == data)
        ],
        "pooled": [
            {"data": data, "model": row.model, "recipe": row.recipe, "seeds": len(pool.seeds), **row.metrics}
            for data, pool in pools.items()
            for row in pool.rows
        ],
        "pooled_differences": [
            {"data": data, "model": row.model, "recipe": row.recipe, "to_model": row.against.model,
             "to_recipe": row.against.recipe, "paired": row.paired, **row.metrics}
            for data, pool in pools.items()
            for row in (*pool.differences, *pool.between)
        ],
        "rank_study": [
            {"data": s.data, "device": s.device, "models": s.n, "predictor": p.name, "rho": p.rho, "p": p.p}
            for s in studies
            for p in s.predictors
        ],
        "sizes": [{**cell.row()} for cell in cells],
        "crossovers": [
            {"below": c.below, "above": c.above, "size": c.size, "ms": c.ms, "between_low": c.between[0],
             "between_high": c.between[1], "shown": c.shown}
            for c in crossings
        ],
        "data": [
            {"data": data, "class": name, "rare": name in card.rare_classes,
             **{f"n_{split}": per.get(name, 0) for split, per in card.counts.items()}}
            for data, members in sweep.groups.items()
            for card in (members[0].card,)
            for name in card.classes
        ],
    }  # fmt: skip
    return {name: lines for name, lines in found.items() if lines}


def write(tables: Mapping[str, Table], folder: Path) -> None:
    """Write every table in all `FORMATS` into a folder."""
    import pyarrow as pa  # half a second, with pandas below, that nobody else in the room shall take
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in tables.items():
        rows = [flat(line) for line in lines]
        names = list(dict.fromkeys(key for row in rows for key in row))
        columns = {key: pa.array([row.get(key) for row in rows]) for key in names}
        for ending, text in (("csv", to_csv(rows)), ("tex", latex(name, lines))):
            with atomic(folder / f"{name}.{ending}") as temporary:
                temporary.write_text(text, encoding="utf-8")
        with atomic(folder / f"{name}.parquet") as temporary:
            pq.write_table(pa.table(columns), temporary)


def latex(name: str, lines: Table) -> str:
    """Return a table in LaTeX with the rules of booktabs; what all rows share is in a comment above it."""
    import pandas as pd

    keys = list(dict.fromkeys(key for line in lines for key in line))
    if name == "comparison":
        left_out = {f.name for f in fields(Row)} - PRINTED
        keys = [k for k in keys if k not in left_out and not k.startswith(("delta_", "n_"))]
    cells = {key: [_cell(line.get(key)) for line in lines] for key in keys}
    shared = {key: mine[0] for key, mine in cells.items() if len(lines) > 1 and len(set(mine)) == 1}
    shown = [key for key in keys if key not in shared] or keys[:1]
    frame = pd.DataFrame({key.replace("_", " "): cells[key] for key in shown})
    texts = (all(isinstance(line.get(key), str | None) for line in lines) for key in shown)
    style = (
        frame.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1)
    )
    said = "; ".join(f"{key} {value}" for key, value in shared.items() if value != MISSING)
    # A line break in a value would end the comment.
    said = " ".join(said.split())
    head = f"% {name.replace('_', ' ')}" + (f"; in every row: {said}" if said else "")
    body = style.to_latex(
        hrules=True, column_format="".join("l" if text else "r" for text in texts)
    )
    return f"{head}\n% needs \\usepackage{{booktabs}}\n" + body.replace("−", "$-$").replace(
        "–", "--"
    )


def _cell(value: Value | Interval) -> str:
    if isinstance(value, Interval):
        return f"{fixed(value.estimate)} {bracket(value)}".rstrip()
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    return MISSING if value is None else str(value)


def _of(candidates: Iterable[Candidate], lines: Callable[[Candidate], Iterable[Line]]) -> Table:
    """Return the lines of every candidate, headed by which one it is."""
    return [
        {"data": c.data, "model": c.model, "seed": c.seed, "recipe": c.recipe, **line}
        for c in candidates
        for line in lines(c)
    ]


def _plain(record: Record) -> Line:
    """Return the numbers, texts and intervals of a record; of intervals by name one column each."""
    line: Line = {}
    for name in record.content():
        value = getattr(record, "name" if name == "class" else name)
        if value is None or isinstance(value, str | int | float | Interval):
            line[name] = value
        elif isinstance(value, Mapping):
            line |= {f"{name}_{k}": v for k, v in value.items() if isinstance(v, Interval)}
    return line


def _classes(c: Candidate) -> Iterator[Line]:
    changes = {change.name: change for change in c.verdict.per_class}
    for row in c.safety.per_class:
        change = changes.get(row.name)
        yield {
            "class": row.name, "rare": row.rare, "critical": row.critical, "n": row.n,
            "groups": row.n_groups, **row.counts, **row.metrics,
            f"{c.task.class_difference}_difference": change.difference if change else Interval(),
            "gained": change.gained if change else None, "lost": change.lost if change else None,
            "p_holm": change.mcnemar_p_holm if change else None,
        }  # fmt: skip


def _confusion(c: Candidate) -> Iterator[Line]:
    for truth, line in zip(c.safety.labels, c.safety.confusion, strict=True):
        for decision, n in zip(c.safety.labels, line, strict=True):
            yield {"truth": truth, "decision": decision, "n": n}


def _timings(c: Candidate) -> Iterator[Line]:
    for timing in c.timings:
        s = timing.setting
        yield {
            "device": timing.profile.device, "threads": s.threads, "batch": s.batch,
            "resolution": "x".join(map(str, s.resolution)),
            **{f"{p}_ms": timing.latency(p) for p in ("p50", "p90", "p95", "p99")},
            "mean_ms": s.latency_ms.mean, "min_ms": s.latency_ms.min, "max_ms": s.latency_ms.max, "load_ms": s.load_ms,
            "peak_memory_mb": s.peak_memory_mb, "warmup": s.warmup, "n": s.n, "timing": s.verdict,
            "reasons": "; ".join(s.reasons),
        }  # fmt: skip


def _operators(c: Candidate) -> Iterator[Line]:
    for device, profile in c.profiles.items():
        for operator in profile.explanation.operators if profile.explanation else ():
            yield {"device": device, **_plain(operator)}


def _signatures(c: Candidate) -> Iterator[Line]:
    for device, profile in c.profiles.items():
        for sign in profile.explanation.signatures if profile.explanation else ():
            yield {"device": device, **_plain(sign)}


def _seeds(line: OverSeeds) -> Line:
    def ends(name: str, value: Range) -> Line:
        return {
            f"{name}_mean": value.mean,
            f"{name}_least": value.low,
            f"{name}_most": value.high,
            f"{name}_n": value.n,
        }

    found: Line = {
        "model": line.model,
        "recipe": line.recipe,
        "device": line.device,
        "seeds": line.seeds,
    }
    found |= {f"n_{verdict}": n for verdict, n in line.verdicts.items()} | ends(
        "p50_ms", line.p50_ms
    )
    for name, value in line.metrics.items():
        found |= ends(name, value)
    return found
