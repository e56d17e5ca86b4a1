"""What the report shows of runs of minutes."""

from __future__ import annotations

from pathlib import Path

from reporting_factory import Spec, build
from sustained_runs import run

from edgeward.core.io import read_json, write_json
from edgeward.reporting import stage
from edgeward.reporting.load import load_all


def test_the_page_says_whether_latency_holds(tmp_path: Path) -> None:
    entries = build(tmp_path, [Spec(n=300), Spec(recipe="ptq_int8", verdict="pass", n=300)])
    for entry, slower, others in zip(entries, (1.0, 1.5), (0.5, 0.0), strict=True):
        path = entry.profiles["host"]
        write_json(path, {**read_json(path), "sustained": run(slower, others).content()})
    assert all(c.profiles["host"].sustained for c in load_all(entries))
    stage.run({"name": "test"}, entries, out=tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Does it hold its latency?" in page
    assert "ptq_int8 slows down on host over 10 minutes: the last 60 s take 1.4" in page
    assert "fp32 is INVALID (in the first stretch other processes used 0.50 cores" in page
    assert "holds its latency" not in page
    assert (tmp_path / "report" / "figures" / "sustained.svg").is_file()


def test_without_such_a_run_nothing_is_said(tmp_path: Path) -> None:
    stage.run({"name": "test"}, build(tmp_path, [Spec(n=300)]), out=tmp_path / "report")
    assert "hold its latency" not in (tmp_path / "report" / "index.html").read_text()
    assert not (tmp_path / "report" / "figures" / "sustained.svg").exists()
