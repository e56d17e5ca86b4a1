"""Stage ``report``: one page per sweep, one deployment checklist per candidate."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import JsonValue

from edgeward.core import plugins
from edgeward.core.io import atomic
from edgeward.records.base import File, Interval, Record
from edgeward.records.failure import Missing
from edgeward.records.provenance import Provenance
from edgeward.records.safety import Pooled
from edgeward.reporting import comparison, figures, ranks, scaling, signatures, signoff, tables
from edgeward.reporting.checklist import checklist
from edgeward.reporting.figures.scaling import scaling as draw_scaling
from edgeward.reporting.headline import headline
from edgeward.reporting.load import Candidate
from edgeward.reporting.page import checklist_markdown, page
from edgeward.reporting.provenance import provenance
from edgeward.reporting.ranks import Study
from edgeward.reporting.scaling import Crossover
from edgeward.reporting.signatures import SweepSignature
from edgeward.reporting.sweep import Sweep
from edgeward.tasks.page import Section, Shown

if TYPE_CHECKING:
    from edgeward.pipeline.paths import ResultPaths

log = logging.getLogger(__name__)


class InTurns(Record):
    """Two models timed in turns, by the keys of the candidates."""

    device: str
    candidate: str
    reference: str
    ratio: Interval
    rounds: int
    timing: str


class Comparison(File):
    """``comparison.json``: the numbers of the page."""

    FORMAT: ClassVar[str] = "edgeward-comparison/3"
    STAGE: ClassVar[str] = "report"

    sweep: str
    provenance: Provenance
    rows: list[dict[str, JsonValue]]
    signatures: list[SweepSignature]
    ranks: list[Study]
    models_in_turns: list[InTurns]
    pooled: dict[str, Pooled]
    crossovers: list[Crossover]


def _in_turns(sweep: Sweep) -> list[InTurns]:
    return [
        InTurns(
            device=ratio.device,
            candidate=ratio.candidate.key,
            reference=ratio.reference.key,
            ratio=ratio.value,
            rounds=ratio.rounds,
            timing=comparison.VALIDITY[ratio.valid],
        )
        for ratio in sweep.between_models
    ]


def _without_pictures(pool: Pooled) -> Pooled:
    plain = [{k: v for k, v in entry.items() if k != "sheet"} for entry in pool.exemplars]
    return pool.model_copy(update={"exemplars": plain})


def shown(candidate: Candidate, key: figures.Key) -> Shown:
    """Return what a task gets of a candidate."""
    return Shown(
        key=candidate.key,
        data=candidate.data,
        model=candidate.model,
        seed=candidate.seed,
        recipe=candidate.recipe,
        reference=candidate.is_reference,
        card=candidate.card,
        built=candidate.built,
        profiles=candidate.profiles,
        prepared=candidate.paths.prepare.folder,
        assessed=candidate.paths.assess.folder,
        cases=candidate.paths.assess.cases,
        colour=key.names[candidate.recipe],
        marker=key.markers[candidate.model],
    )


def _of_tasks(sweep: Sweep, key: figures.Key) -> tuple[dict[str, list[Section]], dict[str, str]]:
    """Return what the tasks add: data set -> sections of the page, and figures by name."""
    sections: dict[str, list[Section]] = {}
    drawn: dict[str, str] = {}
    for task in {c.task.name: c.task for c in sweep.candidates}.values():
        part = plugins.load_optional("edgeward.tasks", task.name, "report")
        if part is None:
            continue
        mine = {
            data: [shown(c, key) for c in members]
            for data, members in sweep.groups.items()
            if members[0].task is task
        }
        sections |= {data: part.sections(members) for data, members in mine.items()}
        drawn |= part.figures([one for members in mine.values() for one in members])
    return sections, drawn


def _write(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def run(
    sweep: Mapping[str, Any],
    candidates: Sequence[ResultPaths],
    *,
    out: Path,
    scaled: Sequence[tuple[Path, Path]] = (),
    turns: Sequence[Path] = (),
    pooled: Sequence[Path] = (),
    missing: Sequence[Missing] = (),
    besides: Sequence[str] = (),
) -> dict[str, float]:
    """Write the report of a sweep into `out`.

    The same input gives the same bytes on the same day, from the same commit and packages. Written are ``index.html``,
    ``comparison.csv``, ``comparison.json``, ``figures/*.svg``, ``tables/*`` (`edgeward.reporting.tables`) and ``checklists/{candidate}.md``, ``.json`` and ``.pdf``; of a
    sweep with sizes also ``scaling.csv`` and ``figures/scaling.svg``, and figures that tasks add.

    Parameters
    ----------
    sweep : ``name`` and optionally ``description`` and ``intended_use``.
    candidates : where the files of each lie.
    out : the folder of the report.
    scaled : ``build.json`` and ``{device}.json`` of every untrained network at every size.
    turns : comparisons in turns, a file per device.
    pooled : seeds pooled, a file per data set, in a sweep with several.
    missing : candidates that failures keep from the sweep; the page and the tables have a row for each.
    besides : what else they keep from it, in sentences.

    Returns
    -------
    Counts of candidates, verdicts, INVALID timings and refusals of engines.

    Raises
    ------
    UserError
        If a file is missing or broken, or the files contradict each other.
    """
    out = Path(out)
    found = Sweep.read(candidates, turns, missing, besides)
    groups = found.groups
    key = figures.Key(found.candidates)
    made = provenance(sweep)
    use = sweep.get("intended_use", "")
    checklists = {
        c.key: checklist(c, found, name=sweep["name"], intended_use=use, made=made)
        for c in found.candidates
    }
    table = comparison.rows(found)
    signs = signatures.of_sweep(found)
    cells = scaling.load(scaled)
    studies = ranks.studies(groups, cells)
    pools = {path.stem: Pooled.read(path) for path in pooled}
    log.info("report of %d candidates on %d data sets", len(found.candidates), len(groups))

    drawn = figures.draw(groups, key, cells)
    parts = (
        {next(iter(groups)): drawn}
        if len(groups) == 1
        else {data: figures.draw({data: members}, key, cells) for data, members in groups.items()}
    )
    sections, added = _of_tasks(found, key)
    crossings = scaling.crossovers(cells)
    if cells:
        added["scaling"] = draw_scaling(cells, crossings)
    exported = tables.of_sweep(found, table, signs, studies, pools, cells, crossings)
    html = page(
        found,
        out=out,
        name=sweep["name"],
        description=sweep.get("description", ""),
        made=made,
        checklists=checklists,
        table=table,
        drawn=parts,
        key=key,
        signs=signs,
        studies=studies,
        scaling=scaling.section(cells, crossings, added["scaling"]) if cells else None,
        pools=pools,
        sections=sections,
        tables=list(exported),
    )

    for old in ("checklists", "figures", "tables"):  # of what left the sweep
        shutil.rmtree(out / old, ignore_errors=True)
    for candidate in found.candidates:
        content, stem = checklists[candidate.key], out / "checklists" / candidate.key
        content.write(stem.with_name(f"{stem.name}.json"))
        _write(stem.with_name(f"{stem.name}.md"), checklist_markdown(content, candidate))
        with atomic(stem.with_name(f"{stem.name}.pdf")) as temporary:
            temporary.write_bytes(signoff.pdf(signoff.sheet(content, candidate)))
    for name, document in (drawn | added).items():
        _write(out / "figures" / f"{name}.svg", document)
    tables.write(exported, out / "tables")
    flat = [*(row.flat() for row in table), *comparison.missing_rows(found)]
    _write(out / "comparison.csv", comparison.to_csv(flat))
    if cells:
        _write(out / "scaling.csv", comparison.to_csv([cell.row() for cell in cells]))
    Comparison(
        format=Comparison.FORMAT,
        sweep=sweep["name"],
        provenance=made,
        rows=flat,
        signatures=signs,
        ranks=studies,
        models_in_turns=_in_turns(found),
        pooled={data: _without_pictures(pool) for data, pool in pools.items()},
        crossovers=crossings,
    ).write(out / "comparison.json")
    _write(out / "index.html", html)
    log.info("report written to %s", out / "index.html")
    return {
        "candidates": float(len(found.candidates)),
        **{name: float(n) for name, n in headline(found).counts.items()},
        "invalid_timings": float(sum(row.timing == "INVALID" for row in table)),
        "invalid_in_turns": float(sum(row.paired_timing == "INVALID" for row in table)),
        "refused": float(sum(row.timing == "REFUSED" for row in table)),
    }
