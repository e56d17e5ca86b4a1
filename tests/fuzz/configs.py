"""Configs that cannot work: overrides, and YAML files of a study."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.pipeline import compose

NUMBERS = ("inf", "-inf", "nan", "-1", "1e400", "1" * 5000, "0x10", "true", "null", "[]", "{}", "''", "1_000", "${x}", "[1,2]")  # fmt: skip
KEYS = ("train.optimizer.lr", "train.lr", "train.epochs", "train.batch_size", "data.seed", "data.image_size", "data.split.train", "data.audit.near_levels",
        "data.source.overlap", "data.calibration.n", "safety.margin", "profile.repeats")  # fmt: skip
TEXTS: dict[str, str | bytes] = {
    "a tag of Python": "!!python/object/apply:os.system ['touch /tmp/owned']",
    "an alias bomb": "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)},*{chr(97 + i)},*{chr(97 + i)},*{chr(97 + i)},*{chr(97 + i)},*{chr(97 + i)},*{chr(97 + i)},*{chr(97 + i)}]\n" for i in range(9)),
    "a tab": "image_size:\t16\n\tsource: x",
    "an open bracket": "image_size: [16",
    "nothing": "",
    "a list": "- 1\n- 2\n",
    "a number": "5\n",
    "a text": "hello\n",
    "not UTF-8": b"image_size: \xff\xfe",
    "NUL": b"image_size: 16\0",
    "deep": "[" * 5000,
    "deep keys": "".join(" " * i + f"k{i}:\n" for i in range(900)),
    "a number of a million digits": "image_size: " + "1" * 1_000_000,
    "infinite": "image_size: .inf\nsource: {kind: folder, path: x}\n",
    "not a number": "image_size: .nan\nsource: {kind: folder, path: x}\n",
    "the same key twice": "image_size: 16\nimage_size: 32\nsource: {kind: folder, path: x}\n",
    "keys that are numbers": "1: 2\n",
    "a key of null": "null: 2\n",
    "shell": "image_size: $(touch /tmp/owned)\n",
    "an environment": "image_size: ${oc.env:HOME}\n",
    "defaults of nowhere": "defaults: [nowhere]\n",
    "defaults of itself": "defaults: [broken]\n",
    "defaults that are a number": "defaults: 5\n",
    "defaults upwards": "defaults: [../../../../etc/passwd]\n",
}  # fmt: skip


def _overridden(override: str, root: Path) -> None:
    roots = (compose.PROJECT,)
    compose.compose(roots, {"data": "phantom_tiny", "model": "dscnn"}, (override,))


def _written(text: str | bytes, root: Path) -> None:
    at = root / "config" / "data" / "broken.yaml"
    at.parent.mkdir(parents=True)
    at.write_bytes(text if isinstance(text, bytes) else text.encode())
    compose.compose((root / "config", compose.PROJECT), {"data": "broken", "model": "dscnn"}, ())


def _nothing(root: Path, rng: np.random.Generator) -> dict[str, Any]:
    return {}


def config_cases() -> Iterator[tuple[str, str, Any, Any, tuple[str, ...], Callable[[Path], None]]]:
    """Yield the fields of `corpus.Case`."""
    for key in KEYS:
        for number in NUMBERS:
            expect = "refuse" if number in ("inf", "-inf", "nan", "1e400", "${x}", "{}") else "any"
            yield (f"{key}={number[:20]}", "config", _nothing, expect, (key.split(".")[-1],), partial(_overridden, f"{key}={number}"))  # fmt: skip
    for name, text in TEXTS.items():
        yield (name, "config", _nothing, "refuse", ("broken.yaml",), partial(_written, text))
