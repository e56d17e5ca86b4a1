"""What the part ``report`` of a task gets and gives: candidates to show, and sections of the page.

It has two functions: ``sections(members) -> list[Section]``, of the candidates of one data set, and
``figures(members) -> dict[str, str]``, SVG documents by name, of all candidates for the task.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeward.records.card import Card
from edgeward.records.profile import Profile
from edgeward.records.recipe import Recipe


@dataclass(frozen=True)
class Shown:
    """A candidate; of a model and seed the reference comes first.

    Attributes
    ----------
    key : its anchor on the page.
    reference : whether the others of its model and seed are compared with it.
    profiles : by device.
    prepared, assessed, cases : folders of the data, of what `assess` wrote, and of what it kept of every case.
    colour : of its recipe: its name in `edgeward.core.palette`. marker : of its model, as matplotlib names it.
    """

    key: str
    data: str
    model: str
    seed: int
    recipe: str
    reference: bool
    card: Card
    built: Recipe
    profiles: dict[str, Profile]
    prepared: Path
    assessed: Path
    cases: Path
    colour: str
    marker: str


@dataclass(frozen=True)
class Section:
    """A section of a data set's part of the page.

    Attributes
    ----------
    name : that its anchor ends with.
    title, short : its heading, and the link in the navigation.
    template : Jinja text of what follows the heading. Besides `context` it has `figure` and `at` (with which its
        ids begin) and all that the page's own templates have.
    figure : SVG document, or empty.
    note : sentence below the comparison, or empty; a link to the section follows.
    """

    name: str
    title: str
    short: str
    template: str
    context: dict[str, Any] = field(default_factory=dict)
    figure: str = ""
    note: str = ""
