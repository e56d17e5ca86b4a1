"""Signatures over a sweep, comparisons in turns, energy, and what the page shows of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from refusals import naming
from reporting_factory import Spec, build, profile, spread

from edgeward.core.errors import UserError
from edgeward.core.io import read_json, write_json
from edgeward.pipeline.paths import ResultPaths
from edgeward.records.base import Interval
from edgeward.records.interleave import Interleave, InTurns, TimedMember
from edgeward.records.profile import Agent, Engine, Host
from edgeward.reporting import signatures, stage
from edgeward.reporting.headline import headline
from edgeward.reporting.load import load_all
from edgeward.reporting.summary import table
from edgeward.reporting.sweep import Sweep

SWEEP = {"name": "test"}


def models(**changed: Any) -> list[Spec]:
    """Three fp32 models in the wrong order: the one with the fewest MACs is the slowest."""
    rows = (("light", 5_000_000, 9.0), ("middle", 20_000_000, 3.0), ("heavy", 80_000_000, 6.0))
    return [Spec(model=m, macs=macs, p50=p50, n=300, **changed) for m, macs, p50 in rows]


def test_a_model_that_its_macs_flatter(tmp_path: Path) -> None:
    found = signatures.flops_rank(load_all(build(tmp_path, models())), "host")
    evidence = {s.model: (s.present, s.evidence["macs_rank"], s.evidence["latency_rank"])
                for s in found}  # fmt: skip
    assert evidence == {"light": (True, 1, 3), "middle": (False, 2, 1), "heavy": (False, 3, 2)}
    assert all(bool(s.advice) == s.present for s in found)


def test_ranks_need_valid_timings(tmp_path: Path) -> None:
    assert signatures.flops_rank(load_all(build(tmp_path, models(valid=False))), "host") == []


@pytest.mark.parametrize(("p50", "present"), [(5.0, True), (2.0, False)])
def test_int8_against_its_reference(tmp_path: Path, p50: float, present: bool) -> None:
    specs = [Spec(p50=4.0, n=300), Spec(recipe="ptq_int8", verdict="pass", p50=p50, n=300)]
    sweep = Sweep.read(build(tmp_path, specs))
    (found,) = signatures.int8_slower(sweep, sweep.candidates, "host")
    assert found.present is present
    assert found.evidence["speedup"] == pytest.approx(4.0 / p50)
    assert found.evidence["interleaved"] is False


def test_an_invalid_timing_decides_nothing_but_one_in_turns_does(tmp_path: Path) -> None:
    specs = [Spec(p50=4.0, n=300, valid=False),
             Spec(recipe="ptq_int8", verdict="pass", p50=2.0, n=300)]  # fmt: skip
    entries = build(tmp_path, specs)
    apart, paired = Sweep.read(entries), Sweep.read(entries, [turns(tmp_path, 1.25)])
    (found,) = signatures.int8_slower(apart, apart.candidates, "host")
    assert found.present is None
    (found,) = signatures.int8_slower(paired, paired.candidates, "host")
    assert found.present is True
    assert found.evidence["speedup"] == pytest.approx(0.8)
    assert found.evidence["interleaved"] is True


def turns(root: Path, ratio: float, **changed: Any) -> Path:
    """The file of the stage `interleave`: INT8 against fp32, and one model against another."""

    def member(model: str, recipe: str, value: float, moved: bool = False) -> TimedMember:
        return TimedMember(
            data="phantom", model=model, seed=0, recipe=recipe,
            latency_ms=Interval.of(4 * value, 3.9 * value, 4.1 * value),
            ratio=Interval.of(value, 0.98 * value, 1.02 * value, n=41),
            verdict="INVALID" if moved else "VALID", reasons=["the ratio moved"] if moved else [],
        )  # fmt: skip

    groups = [
        [member("mobileone_s0", "fp32", 1.0), member("mobileone_s0", "ptq_int8", ratio)],
        [member("mobileone_s0", "fp32", 1.0), member("heavy", "fp32", 2.5, moved=True)],
        [member("absent", "fp32", 1.0), member("mobileone_s0", "fp32", 2.0)],
    ]
    path = root / "interleaved" / "host.json"
    alone = profile("host", [])
    found = Interleave(
        format=Interleave.FORMAT, device="host", emulated=False, host=Host(**alone["host"]),
        engine=Engine(**alone["engine"]), agent=Agent(**alone["agent"]), confidence=0.95,
        groups=[
            InTurns(
                threads=1, batch=1, rounds=41, block=5, duration_s=9.0, candidates=group,
                refused=[], conditions={},
            )
            for group in groups
        ],
    )  # fmt: skip
    write_json(path, found.content() | changed)
    return path


@pytest.fixture
def entries(tmp_path: Path) -> list[ResultPaths]:
    return build(
        tmp_path / "in",
        [Spec(n=300), Spec(recipe="ptq_int8", verdict="pass", p50=1.3, n=300),
         Spec(model="heavy", macs=80_000_000, bytes_moved=9_000_000, p50=6.0, n=300),
         Spec(model="light", macs=5_000_000, bytes_moved=12_000_000, p50=9.0, n=300)],
    )  # fmt: skip


def test_ratios_are_those_of_the_file(tmp_path: Path, entries: list[ResultPaths]) -> None:
    sweep = Sweep.read(entries, [turns(tmp_path, 0.5)])
    found = {(c.model, c.recipe): sweep.in_turns(c, "host") for c in sweep.candidates}
    speed = found.pop(("mobileone_s0", "ptq_int8"))
    assert speed is not None
    assert tuple(speed.factor) == pytest.approx((2, 1 / 0.51, 1 / 0.49))
    assert set(found.values()) == {None}
    (other,) = sweep.between_models
    assert (other.candidate.model, other.reference.model, other.valid) == (
        "heavy",
        "mobileone_s0",
        False,
    )


def test_a_file_of_another_version_is_refused(tmp_path: Path, entries: list[ResultPaths]) -> None:
    path = turns(tmp_path, 1.0, schema="edgeward-interleave/0")
    with pytest.raises(UserError, match=naming("host.json", "'schema'", "'edgeward-interleave/0'")):
        Sweep.read(entries, [path])


def test_page_and_comparison_show_the_explanation(
    tmp_path: Path, entries: list[ResultPaths]
) -> None:
    content = read_json(entries[2].profiles["host"])
    content["energy"] = {
        "status": "measured", "verdict": "VALID", "reasons": [], "batch": 1, "windows": 3,
        "counter": {"kind": "rapl", "domains": ["package"]}, "inferences": 100, "duration_s": 9.0,
        "gross_mj": spread(60.25), "net_mj": spread(41.5), "idle_w": spread(3.0), "load_w": spread(9.0),
    }  # fmt: skip
    write_json(entries[2].profiles["host"], content)
    out = tmp_path / "out"
    stage.run(SWEEP, entries, out=out, turns=[turns(tmp_path, 0.5)])
    found = json.loads((out / "comparison.json").read_text())
    rows = {(r["model"], r["recipe"]): r for r in found["rows"]}
    assert rows["mobileone_s0", "ptq_int8"]["paired_speedup"] == pytest.approx(2)
    assert rows["mobileone_s0", "fp32"]["paired_speedup"] is None
    assert rows["heavy", "fp32"]["energy_net_mj"] == 41.5
    assert rows["light", "fp32"]["energy_net_mj"] is None
    assert rows["light", "fp32"]["energy"] == "not measured"
    assert rows["light", "fp32"]["bytes_moved"] == 12_000_000
    assert found["ranks"][0]["n"] == 3
    assert found["models_in_turns"][0]["timing"] == "INVALID"
    names = {r["name"] for r in found["signatures"]}
    assert names == {"flops_rank", "int8_slower"}
    html = (out / "index.html").read_text()
    for text in (
        "Layout changes break fusion", "2 layout changes take 15 % of the time.", "Keep one layout.",
        "Looked for and not found: Bound by memory", "MACs mislead about its latency",
        "on host, this machine has no energy counter", "gross 60.25", "Models in turns",
        "Too few models to tell", "ReorderOutput", "80.0 %",
    ):  # fmt: skip
        assert text in html, text


def refuse(entry: ResultPaths, device: str) -> None:
    path = entry.profiles[device]
    write_json(
        path,
        read_json(path)
        | {"refused": "no kernel for LinearAttention", "settings": [], "explanation": None},
    )


def test_a_model_that_an_engine_refuses_is_shown_as_such_everywhere(tmp_path: Path) -> None:
    devices = ("host", "board")
    specs = [Spec(n=300, devices=devices),
             Spec(recipe="ptq_int8", verdict="pass", n=300, devices=devices)]  # fmt: skip
    entries = build(tmp_path, specs)
    refuse(entries[1], "board")
    out = tmp_path / "report"
    metrics = stage.run(SWEEP, entries, out=out)
    assert metrics["refused"] == 1
    assert metrics["invalid_timings"] == 0
    rows = {(r["recipe"], r["device"]): r for r in read_json(out / "comparison.json")["rows"]}
    assert rows["ptq_int8", "board"]["timing"] == "REFUSED"
    assert rows["ptq_int8", "board"]["p50_ms"] is None
    assert rows["ptq_int8", "board"]["speedup"] is None
    assert rows["ptq_int8", "host"]["timing"] == "VALID"
    html = (out / "index.html").read_text()
    assert "The engine of board refuses mobileone_s0 ptq_int8: no kernel for" in html
    checklist = (out / "checklists" / "phantom-mobileone_s0-s0-ptq_int8.md").read_text()
    assert "no kernel for LinearAttention" in checklist
    text = table(entries)
    assert "refused" in next(
        line for line in text.splitlines() if "+ pass" in line and "board" in line
    )
    assert "the engine cannot load the model" in text


def test_speed_in_turns_is_what_is_quoted(tmp_path: Path) -> None:
    specs = [Spec(p50=4.0, n=300), Spec(recipe="ptq_int8", verdict="pass", p50=5.0, n=300)]
    entries = build(tmp_path, specs)
    assert " 0.80~" in table(entries)  # of two timings
    path = turns(tmp_path, 0.5)
    text = table(entries, [path, tmp_path / "not_there.json"])
    assert " 2.00 " in text
    assert "in turns" in text
    (finding,) = headline(Sweep.read(entries, [path])).findings
    assert "Speed on host against the reference: 2.00×" in finding.text
    assert "in turns" in finding.text
