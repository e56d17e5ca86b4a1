"""What the page shows of findings besides the tables that all tasks share: which come together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeward.tasks.page import Section, Shown

READS = ("templates/*",)  # read as files: see edgeward.pipeline.closure
TEMPLATES = Path(__file__).parent / "templates"


def shares(table: Sequence[Sequence[int]]) -> list[list[tuple[int, float]]]:
    """Return a matrix of cases that have two findings with each count's share of the cases with the row's finding."""
    return [[(n, n / row[k] if row[k] else 0.0) for n in row] for k, row in enumerate(table)]


def sections(members: Sequence[Shown]) -> list[Section]:
    """Return the co-occurrence of the findings of a data set."""
    card = members[0].card
    if card.cooccurrence is None:
        return []
    unknown = (card.unknown or {}).get("train", {})
    return [
        Section(
            "together",
            "Findings that come together",
            "Together",
            (TEMPLATES / "cooccurrence.html.j2").read_text(),
            {
                "rows": list(zip(card.classes, shares(card.cooccurrence), strict=True)),
                "rare": card.rare_classes,
                "empty": (card.empty or {}).get("train", 0),
                "left_out": card.left_out,
                "unknown": {name: n for name, n in unknown.items() if n},
            },
        )
    ]


def figures(members: Sequence[Shown]) -> dict[str, str]:
    """Return no figure of its own."""
    del members
    return {}
