"""Broken input is refused by name, healthy input is taken, and nothing hangs, fills the memory or ends in a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import harness
import pytest
from corpus import Case, Expect

from edgeward.core.errors import UserError

HARNESS = Path(__file__).with_name("harness.py")


def wrong(folder: Path, *arguments: str) -> list[str]:
    """Run the harness, and return what is not as it should be."""
    told = folder / "outcomes.json"
    command = [sys.executable, str(HARNESS), "--json", str(told), *arguments]
    subprocess.run(command, check=True, capture_output=True)
    found = [json.loads(line) for line in told.read_text().splitlines()]
    assert found
    return [f"{o['source']} {o['name']}: {o['kind']}: {o['said'][-500:]}" for o in found if o["kind"] not in harness.FINE]  # fmt: skip


def test_a_sample_of_broken_inputs(tmp_path: Path) -> None:
    assert wrong(tmp_path, "--sample", "150", "--cases", "800", "--jobs", "1") == []


@pytest.mark.fuzz
@pytest.mark.timeout(7200)
def test_a_thousand_broken_inputs(tmp_path: Path) -> None:
    assert wrong(tmp_path, "--cases", "1200", "--seed", "1") == []


def _refuse(root: Path) -> None:
    raise UserError("it is x.png")


def _fill(root: Path) -> None:
    bytearray(600 << 20)


def _wait(root: Path) -> None:
    time.sleep(600)


def _spin(root: Path) -> None:
    while True:
        pass


@pytest.mark.parametrize(
    ("check", "expect", "words", "kind"),
    [
        (lambda root: None, "accept", (), "accepted"),
        (lambda root: None, "refuse", (), "wrongly accepted"),
        (_refuse, "refuse", ("x.png",), "refused"),
        (_refuse, "refuse", ("y.png",), "unnamed"),
        (_refuse, "accept", (), "wrongly refused"),
        (lambda root: 1 / 0, "any", (), "traceback"),
        (_fill, "any", (), "over memory"),
        (_wait, "any", (), "hang"),
        (_spin, "any", (), "hang"),
    ],
    ids=range(9),
)
def test_the_harness_tells_them_apart(
    monkeypatch: pytest.MonkeyPatch,
    check: Callable[[Path], None],
    expect: Expect,
    words: tuple[str, ...],
    kind: str,
) -> None:
    if kind == "hang":
        monkeypatch.setattr(harness, "SECONDS", 1)
    case = Case("made up", "none", lambda root, rng: {}, expect, words, check)
    # A forked process begins with what this one holds, and that is what other tests have loaded.
    [idle] = harness.run([replace(case, check=lambda root: None)], 0, 1)
    monkeypatch.setattr(harness, "GIB", idle.gib + 0.25)
    [outcome] = harness.run([case], 0, 1)
    assert outcome.kind == kind, outcome.said
