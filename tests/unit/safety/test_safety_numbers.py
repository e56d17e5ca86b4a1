"""The numbers of an assessment are those of the first edition, whose files lie in ``tests/golden``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safety_cases import config, of_few_cases
from small_models import write_blurring, write_model

from edgeward.core.io import read_json
from edgeward.data.store import Prepared
from edgeward.records.safety import Safety, Verdict
from edgeward.safety.stage import run

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


def multiclass(root: Path, data: Prepared) -> None:
    for name, scale in (("fp32", 1.0), ("int8", 1.02)):
        bias = np.array([0.5, 0.0, -0.5])
        write_model(root / f"{name}.onnx", data, scale * 0.05 * np.eye(3), bias)


def segmentation(root: Path, data: Prepared) -> None:
    for name, sharpness in (("fp32", 0.01), ("int8", 0.00005)):
        write_blurring(root / f"{name}.onnx", data, (32, 32), sharpness=sharpness)


def numbers(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], float]]:
    """Yield every number of nested lists and mappings, with its place."""
    if isinstance(content, dict | list):
        parts = content.items() if isinstance(content, dict) else enumerate(content)
        for key, value in parts:
            yield from numbers(value, (*path, key))
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield path, content


@pytest.mark.parametrize(
    ("name", "fixture", "write"),
    [("multiclass", "small_prepared", multiclass), ("segmentation", "small_masks", segmentation)],
)
def test_numbers_are_those_of_the_first_edition(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, fixture: str, write: Any
) -> None:
    data = request.getfixturevalue(fixture)
    cfg = config(resamples=200, batch_size=7) if name == "multiclass" else of_few_cases()
    write(tmp_path, data)
    for recipe, reference in (("fp32", None), ("int8", tmp_path / "fp32")):
        run(
            cfg, model=tmp_path / f"{recipe}.onnx", prepared=data.root, out=tmp_path / recipe,
            reference=reference, threads=1,
        )  # fmt: skip
    golden = json.loads((GOLDEN / f"assess_{name}.json").read_text())
    for kind, what in ((Safety, "safety"), (Verdict, "verdict")):
        old = kind.model_validate(kind.upgrade(golden[what])).content()
        found = dict(numbers(read_json(tmp_path / "int8" / f"{what}.json")))
        expected = dict(numbers(old))
        assert len(expected) > 100
        missing = expected.keys() - found.keys()
        assert not missing
        for place, value in expected.items():
            assert found[place] == pytest.approx(value, rel=1e-5, abs=1e-7), (what, *place)
