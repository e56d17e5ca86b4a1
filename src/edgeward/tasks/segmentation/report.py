"""What the page shows of label maps: cases over their images, and the time and memory of whole volumes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path

from edgeward.core.pictures import COLOURS
from edgeward.core.text import plural, span
from edgeward.tasks.page import Section, Shown
from edgeward.tasks.segmentation.figure import draw
from edgeward.tasks.segmentation.overlays import CHANGED, galleries
from edgeward.tasks.segmentation.volumes import of_members

READS = ("templates/*",)  # read as files: see edgeward.pipeline.closure
TEMPLATES = Path(__file__).parent / "templates"


def sections(members: Sequence[Shown]) -> list[Section]:
    """Return the worst, median and best cases of a data set, and of volumes what whole ones take."""
    card, shared = members[0].card, {"several_seeds": len({one.seed for one in members}) > 1}
    cases = Section(
        "cases",
        "Worst, median and best case",
        "Cases",
        (TEMPLATES / "cases.html.j2").read_text(),
        {
            **shared,
            "galleries": galleries(members),
            "classes": [(name, COLOURS[i % len(COLOURS)]) for i, name in enumerate(card.classes)],
            "changed": CHANGED,
            "volumes": card.spatial_dims == 3,
        },
    )
    wholes = of_members(members)
    if not wholes:
        return [cases]
    shapes = wholes[0].shapes
    whole = Section(
        "volumes",
        "Whole volumes",
        "Volumes",
        (TEMPLATES / "volumes.html.j2").read_text(),
        {
            **shared,
            "several_devices": len({w.profile.device for w in wholes}) > 1,
            "wholes": wholes,
            "tests": f"{plural(len(shapes), 'test volume')} of {span(map(prod, shapes))} voxels",
        },
        figure=draw(wholes),
        note="Latency and memory are of one patch",
    )
    return [cases, whole]


def figures(members: Sequence[Shown]) -> dict[str, str]:
    """Return the figure of whole volumes of all data sets, if there are any."""
    by_data = {one.data: [other for other in members if other.data == one.data] for one in members}
    wholes = [whole for mine in by_data.values() for whole in of_members(mine)]
    return {"volumes": draw(wholes)} if wholes else {}
