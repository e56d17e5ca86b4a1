"""A failure is a row: on the page, in the tables, in the terminal."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from html_page import Page
from reporting_factory import SWEEP, Spec, build

from edgeward.records.failure import Failure, Missing
from edgeward.reporting import stage
from edgeward.reporting.summary import WIDTH, table

SPEC: dict[str, Any] = {"n": 300, "rare": [], "classes": ["nv", "mel", "bkl"]}


def failure(stage: str, **of: str) -> Failure:
    return Failure(
        format=Failure.FORMAT, stage=stage, of={"data": "phantom", "model": "dscnn", "seed": "0", **of},
        reason=f"<{stage}> is broken. Change key 'x' in config/{stage}/. " + "Known: " + ", ".join("abcdefgh" * 20),
        foreseen=stage != "profile", log=f"logs/{stage}.log", kept=["parity.json"],
    )  # fmt: skip


def missing(recipe: str, stage: str, *causes: Failure, device: str | None = None) -> Missing:
    return Missing("phantom", "dscnn", 0, recipe, device, stage, {}, Path("results/x"), causes)


def test_page_tables_and_terminal_have_a_row_for_each(tmp_path: Path) -> None:
    export = failure("export", recipe="qat_int8")
    lost = [
        missing("qat_int8", "export", export),
        missing("fp32", "compress", failure("train")),
        missing(
            "ptq_int8",
            "profile",
            failure("profile", recipe="ptq_int8", device="phone"),
            device="phone",
        ),
    ]
    entries = build(tmp_path, [Spec(**SPEC), Spec(recipe="ptq_int8", verdict="pass", **SPEC)])
    besides = ["interleave s/host was not done: 1 stage that it needs failed"]
    stage.run(SWEEP, entries, out=tmp_path / "out", missing=lost, besides=besides)
    html = (tmp_path / "out/index.html").read_text()
    page = Page(html)
    assert "failed" in page.ids
    assert len(page.ids) == len(set(page.ids))
    assert "2 candidates failed (below)." in html
    assert "2 of 4" in html
    assert "&lt;export&gt; is broken. Change key &#39;x&#39; in config/export/." in html
    assert "logs/export.log" in html
    assert "kept: parity.json" in html
    assert "Interleave s/host was not done: 1 stage that it needs failed." in html
    with (tmp_path / "out/comparison.csv").open(newline="") as handle:
        rows = [r for r in csv.DictReader(handle) if r["failure"]]
    assert [(r["recipe"], r["verdict"], r["timing"], r["failed_stage"]) for r in rows] == [
        ("qat_int8", "failed", "", "export"),
        ("fp32", "failed", "", "compress"),
        ("ptq_int8", "", "FAILED", "profile"),
    ]
    assert rows[1]["failure"].startswith(
        "Not begun: train phantom/dscnn/0 failed: <train> is broken."
    )
    assert len(json.loads((tmp_path / "out/comparison.json").read_text())["rows"]) == 5

    text = table(entries, missing=lost, everything=5)
    assert "1 of 5 candidates not finished." in text
    assert "! failed: dscnn qat_int8\n" in text
    assert "! failed: dscnn ptq_int8 on phone\n" in text
    assert "logs/profile.log holds the traceback" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= WIDTH
    assert len(text.splitlines()) < 40


def test_a_sweep_of_failures_alone_has_a_page(tmp_path: Path) -> None:
    lost = [missing(recipe, "compress", failure("train")) for recipe in ("fp32", "qat_int8")]
    stage.run(SWEEP, [], out=tmp_path, missing=lost)
    html = (tmp_path / "index.html").read_text()
    assert "No candidate of this sweep was finished. 2 candidates failed (below)." in html
    assert html.count("&lt;train&gt; is broken") == 2
    text = table([], missing=lost, everything=2)
    assert text.startswith("No candidate is finished.\n")
    assert text.count("<train> is broken") == 1  # one reason, told once
