"""One palette for page and figures, in a light and a dark version with the same names."""

from __future__ import annotations

LIGHT: dict[str, str] = {
    "page": "#f6f7f8",
    "surface": "#ffffff",
    "sunken": "#eef1f4",
    "ink": "#17212b",
    "muted": "#566472",
    "line": "#d6dce2",
    "shade": "#c9d1d8",
    "accent": "#1b5e85",
    "pass": "#16704c",
    "fail": "#b02a2a",
    "inconclusive": "#8a5a00",
    "reference": "#4a5866",
    "series-0": "#5b6875",
    "series-1": "#1f6fb5",
    "series-2": "#c2571a",
    "series-3": "#7a4fb0",
    "series-4": "#0f8a80",
    "series-5": "#b03a78",
    "series-6": "#7c7a12",
    "series-7": "#3d4fb8",
}

DARK: dict[str, str] = {
    "page": "#10151a",
    "surface": "#171e25",
    "sunken": "#1f2830",
    "ink": "#e6ebef",
    "muted": "#9aa8b4",
    "line": "#33404b",
    "shade": "#05080b",
    "accent": "#7cbbe2",
    "pass": "#5cc596",
    "fail": "#f08a80",
    "inconclusive": "#e3b04b",
    "reference": "#a9b6c2",
    "series-0": "#a0adb8",
    "series-1": "#6db0ea",
    "series-2": "#f0985f",
    "series-3": "#b897e6",
    "series-4": "#4fc4b8",
    "series-5": "#e584b4",
    "series-6": "#c6c258",
    "series-7": "#8f9df0",
}

SYMBOLS: dict[str, str] = {
    "pass": "✓",
    "fail": "✕",
    "inconclusive": "?",
    "reference": "◆",
    "failed": "!",
}


def series(index: int) -> str:
    """Return the name of the colour of the index-th compressed recipe or model; 0 is neutral."""
    return "series-0" if index == 0 else f"series-{1 + (index - 1) % 7}"
