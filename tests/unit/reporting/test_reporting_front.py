"""The figure of time and harm: there where a recipe has a front, with the greedy search beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reporting_factory import SWEEP, Spec, build

from edgeward.reporting import stage

FRONT: dict[str, Any] = {
    "step": "fast_int8", "device": "host", "float_ms": 2.0,
    "front": [{"ms": 0.75, "harm": 0.3, "integer": 9, "tried": True}, {"ms": 1.25, "harm": 0.125, "integer": 4, "tried": True},
              {"ms": 2.0, "harm": 0.0, "integer": 0, "tried": False}],
    "chosen": {"ms": 1.25, "harm": 0.125},
}  # fmt: skip
GREEDY: dict[str, Any] = {
    "step": "safe_mixed_int8", "order": ["a", "b", "c"], "float": ["a"], "harm": {"a": 1.0, "b": 0.0625, "c": -0.5},
}  # fmt: skip


def drawn(root: Path, effects: dict[str, list[dict[str, Any]]]) -> Path:
    specs = [
        Spec(p50=2.5),
        Spec(recipe="safe_fast_int8", verdict="pass", p50=1.8),
        Spec(recipe="safe_mixed_int8", verdict="pass", p50=2.125),
    ]
    entries = build(root / "in", specs)
    for spec, entry in zip(specs, entries, strict=True):
        content = json.loads(entry.compress.record.read_text())
        content["effects"] = effects.get(spec.recipe, [])
        entry.compress.record.write_text(json.dumps(content))
    stage.run(SWEEP, entries, out=root / "out")
    return root / "out"


def test_the_front_stands_beside_what_was_measured(tmp_path: Path) -> None:
    out = drawn(tmp_path, {"safe_fast_int8": [FRONT], "safe_mixed_int8": [GREEDY]})
    figure = (out / "figures" / "front.svg").read_text()
    # In float 2.5 ms, of which 2.0 can be placed; 0.75 of them are saved.
    assert "3 placements, chosen 1.75 ms at harm 0.125" in figure
    assert "safe_fast_int8 measured 1.80 ms at harm 0.125" in figure
    assert (
        "safe_mixed_int8 measured 2.12 ms at harm 0.0625" in figure
    )  # "a" is float, "c" does no harm
    assert "-front-figure" in (out / "index.html").read_text()


def test_no_recipe_with_a_front_no_figure(tmp_path: Path) -> None:
    out = drawn(tmp_path, {"safe_mixed_int8": [GREEDY]})
    assert not (out / "figures" / "front.svg").exists()
    assert "-front-figure" not in (out / "index.html").read_text()
