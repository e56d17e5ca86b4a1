"""Matplotlib figures as SVG text: the same bytes for the same input, standalone or inline."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib.figure import Figure

from edgeward.core.palette import LIGHT

WIDTH = 11.6  # inches; 1114 px at the natural size of the page
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edgeward",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.labelcolor": LIGHT["muted"],
    "axes.edgecolor": LIGHT["line"],
    "axes.facecolor": LIGHT["surface"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.unicode_minus": True,
    "grid.color": LIGHT["line"],
    "grid.linewidth": 0.6,
    "text.color": LIGHT["ink"],
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.facecolor": LIGHT["surface"],
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}


@contextmanager
def style() -> Iterator[None]:
    """Draw with the house style, and nothing of the user's own matplotlibrc."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def standalone(figure: Figure, alt: str) -> str:
    """Return the figure as an SVG document without date, with `alt` as title and label."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    body = text.getvalue()
    body = re.sub(r"<!DOCTYPE.*?>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r"\s*<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    body = re.sub(r"[ \t]+$", "", body, flags=re.MULTILINE)
    label = html.escape(alt)
    return re.sub(
        r"<svg ([^>]*)>",
        lambda m: f'<svg role="img" aria-label="{label}" {m[1]}>\n <title>{label}</title>',
        body,
        count=1,
    )


def inline(document: str, prefix: str) -> str:
    """Turn a standalone figure into one that lives inside a page.

    Colours become the page's CSS variables (so that dark mode works), ids get a prefix (so that
    two figures do not share one), and the text takes the page's font.
    """
    body = document[document.index("<svg") :]
    body = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", body)
    body = re.sub(r'\sxlink:href="', ' href="', body)
    body = re.sub(r'\b(id|aria-labelledby)="([^"]+)"', rf'\1="{prefix}-\2"', body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", body)
    for name, colour in LIGHT.items():
        body = body.replace(f": {colour}", f": var(--{name})")
    body = re.sub(r"font: ([^;\"]*?)'DejaVu Sans', sans-serif", r"font: \1var(--sans)", body)
    size = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', body)
    if size is None:
        raise ValueError("not a figure that matplotlib wrote")
    width = round(float(size[1]) * 4 / 3)
    return body.replace(size[0], f'style="width:{width}px;min-width:{min(width, 720)}px"', 1)
