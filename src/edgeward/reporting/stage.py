"""Stage ``report``: one page per sweep, one deployment checklist per candidate."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.core.io import atomic, read_json, write_json
from edgeward.reporting import (
    comparison,
    figures,
    interleaved,
    overlays,
    ranks,
    scaling,
    signatures,
    volumes,
)
from edgeward.reporting.checklist import checklist
from edgeward.reporting.figures.scaling import scaling as draw_scaling
from edgeward.reporting.figures.volumes import whole_volumes
from edgeward.reporting.headline import headline
from edgeward.reporting.load import by_data, load_all
from edgeward.reporting.page import checklist_markdown, page

if TYPE_CHECKING:
    from edgeward.pipeline.paths import ResultPaths

log = logging.getLogger(__name__)


def _without_pictures(pool: dict[str, Any]) -> dict[str, Any]:
    plain = [
        {key: value for key, value in entry.items() if key != "sheet"}
        for entry in pool["exemplars"]
    ]
    return {**pool, "exemplars": plain}


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
) -> dict[str, float]:
    """Write the report of a sweep into `out`.

    The same input gives the same bytes. Written are ``index.html``, ``comparison.csv``,
    ``comparison.json``, ``figures/*.svg`` and ``checklists/{candidate}.md`` and ``.json``; of a
    sweep with sizes also ``scaling.csv`` and ``figures/scaling.svg``, of one with volumes
    ``figures/volumes.svg``.

    Parameters
    ----------
    sweep : ``name`` and optionally ``description``.
    candidates : where the files of each lie.
    out : the folder of the report.
    scaled : ``build.json`` and ``{device}.json`` of every untrained network at every size.
    turns : comparisons in turns, a file per device.
    pooled : seeds pooled, a file per data set, in a sweep with several.

    Returns
    -------
    Counts of candidates, verdicts, INVALID timings and refusals of engines.

    Raises
    ------
    UserError
        If a file is missing or broken, or the files contradict each other.
    """
    out = Path(out)
    loaded = load_all(candidates)
    groups = by_data(loaded)
    key = figures.Key(loaded)
    ratios = interleaved.load(turns, loaded)
    paired = interleaved.own_reference(ratios)
    checklists = {c.key: checklist(c, loaded, paired) for c in loaded}
    table = comparison.rows(loaded, paired)
    signs = signatures.of_sweep(loaded, paired)
    cells = scaling.load(scaled)
    studies = ranks.studies(groups, cells)
    log.info("report of %d candidates on %d data sets", len(loaded), len(groups))

    whole = figures.draw(groups, key, cells)
    parts = (
        {next(iter(groups)): whole}
        if len(groups) == 1
        else {data: figures.draw({data: members}, key, cells) for data, members in groups.items()}
    )
    crossings = scaling.crossovers(cells)
    drawn = draw_scaling(cells, crossings) if cells else ""
    section = scaling.section(cells, crossings, drawn) if cells else None
    pools = {path.stem: read_json(path) for path in pooled}
    whole_parts = {data: volumes.of_members(members) for data, members in groups.items()}
    every_whole = [one for part in whole_parts.values() for one in part]
    dense = {
        data: {
            "galleries": overlays.galleries(members),
            "wholes": whole_parts[data],
            "wholes_figure": whole_volumes(whole_parts[data], key) if whole_parts[data] else "",
        }
        for data, members in groups.items()
        if members[0].task.segments
    }
    html = page(
        sweep, loaded, checklists, table, parts, key, signs, studies, section, ratios, pools, dense
    )

    shutil.rmtree(out / "checklists", ignore_errors=True)  # of candidates that left the sweep
    for name, content in checklists.items():
        write_json(out / "checklists" / f"{name}.json", content)
        _write(out / "checklists" / f"{name}.md", checklist_markdown(content))
    for name, document in whole.items():
        _write(out / "figures" / f"{name}.svg", document)
    _write(out / "comparison.csv", comparison.to_csv(table))
    if drawn:
        _write(out / "figures" / "scaling.svg", drawn)
        _write(out / "scaling.csv", comparison.to_csv([cell.row() for cell in cells]))
    if every_whole:
        _write(out / "figures" / "volumes.svg", whole_volumes(every_whole, key))
    write_json(
        out / "comparison.json",
        {
            "schema": comparison.SCHEMA,
            "sweep": sweep.get("name"),
            "rows": table,
            "signatures": signs,
            "ranks": studies,
            "models_in_turns": [
                {
                    "device": ratio.device,
                    "candidate": ratio.candidate.key,
                    "reference": ratio.reference.key,
                    "ratio": asdict(ratio.value),
                    "rounds": ratio.rounds,
                    "timing": "VALID" if ratio.valid else "INVALID",
                }
                for ratio in interleaved.between_models(ratios)
            ],
            "pooled": {data: _without_pictures(pool) for data, pool in pools.items()},
            "crossovers": [asdict(crossing) for crossing in crossings],
        },
    )
    _write(out / "index.html", html)
    counts = headline(loaded, paired).counts
    invalid, refused = (sum(r["timing"] == kind for r in table) for kind in ("INVALID", "REFUSED"))
    log.info("report written to %s", out / "index.html")
    return {
        "candidates": float(len(loaded)),
        **{name: float(n) for name, n in counts.items()},
        "invalid_timings": float(invalid),
        "refused": float(refused),
    }
