"""The page: it parses, needs nothing from outside, escapes, and shows the numbers of the files."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from html_page import REMOTE, Page
from reporting_factory import SWEEP, Made, Spec, around, build, default_sweep, make

from edgeward.core.io import read_json, write_json
from edgeward.data.audit import UNITS
from edgeward.reporting import stage
from edgeward.reporting.numbers import fixed, milliseconds
from edgeward.reporting.page import LEAKS
from edgeward.reporting.summary import table


@pytest.fixture(scope="module")
def html(made: Made) -> str:
    return (made.out / "index.html").read_text()


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_the_page_is_well_formed_and_its_links_lead_somewhere(made: Made, page: Page) -> None:
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids
        else:
            assert (made.out / link).is_file()


def test_nothing_comes_from_outside(html: str) -> None:
    assert not REMOTE.search(html)
    assert "http://" not in html
    assert "https://" not in html


def test_the_detector_of_remote_resources_works() -> None:
    for text in ('<img src="https://a/b.png">', "<a href='//a'>", "url(http://a)", "@import 'x'"):
        assert REMOTE.search(text)


def test_every_figure_is_inline_labelled_and_follows_the_theme(html: str, page: Page) -> None:
    assert len(page.images) == 5  # two models are too few for a rank study
    for image in page.images:
        assert len(str(image["aria-label"])) > 30
    drawings = "".join(re.findall(r'<svg role="img".*?</svg>', html, re.DOTALL))
    assert "var(--ink)" in drawings
    assert set(re.findall(r"(?:fill|stroke): #[0-9a-f]+", drawings)) == set()


def test_the_table_shows_the_numbers_of_the_files(made: Made, page: Page) -> None:
    table = page.tables[0]
    head, body = table[0], table[1:]
    assert len(body) == len(made.entries)
    for entry, cells in zip(made.entries, body, strict=True):
        row = dict(zip(head, cells, strict=True))
        safety = read_json(entry.assess.safety)
        verdict = read_json(entry.assess.verdict)
        profile = read_json(entry.profiles["host"])
        latency = profile["settings"][0]["latency_ms"]
        assert row["Model"] == entry.model
        assert row["Recipe"] == entry.recipe
        assert verdict["verdict"] in row["Verdict"]
        for name, column in (("p50", "p50ms"), ("p90", "p90ms")):
            record = latency[name]
            assert row[column].startswith(
                f"{milliseconds(record['estimate'])}[{milliseconds(record['low'])}, "
                f"{milliseconds(record['high'])}]"
            )
        for name, column in (("auc_macro", "AUCmacro"), ("balanced_accuracy", "Balanced accuracy"),
                             ("rare_recall", "Rare recall"), ("ece", "RMS-ECEdebiased")):  # fmt: skip
            record = safety["metrics"][name]
            ends = f"[{fixed(record['low'])}, {fixed(record['high'])}]"
            assert row[column] == fixed(record["estimate"]) + ends
        if verdict["verdict"] != "reference":
            delta = verdict["differences"]["rare_recall"]
            assert row["Δ Rare recallto reference"].startswith(
                fixed(delta["estimate"], signed=True)
            )
        assert ("INVALID" in row["p50ms"]) == (profile["settings"][0]["verdict"] == "INVALID")


def test_verdicts_are_told_by_symbol_and_word(html: str) -> None:
    for symbol, word in (("✓", "pass"), ("✕", "fail"), ("?", "inconclusive"), ("◆", "reference")):
        assert f"<i>{symbol}</i></span>{word}</span>" in html


def test_confusion_and_data_card(made: Made, page: Page) -> None:
    safety = read_json(made.entries[0].assess.safety)
    heat = next(t for t in page.tables if t[0][0] == "truth")
    shown = [[int(cell.replace(" ", "")) for cell in row[1:]] for row in heat[1:]]
    assert shown == np.array(safety["confusion"]).tolist()
    card = next(t for t in page.tables if t[0] == ["Class", "train", "val", "test"])
    assert [row[0] for row in card[1:8]] == [
        *safety["classes"][:5], *(f"★ {name}" for name in safety["classes"][5:])
    ]  # fmt: skip
    assert [int(row[3].replace(" ", "")) for row in card[1:8]] == [
        e["n"] for e in safety["per_class"]
    ]


def test_csv_and_json_hold_the_same_rows(made: Made) -> None:
    with (made.out / "comparison.csv").open(newline="") as handle:
        table = list(csv.DictReader(handle))
    content = json.loads((made.out / "comparison.json").read_text())
    assert content["schema"] == "edgeward-comparison/3"
    assert len(table) == len(content["rows"]) == len(made.entries)
    for text, row in zip(table, content["rows"], strict=True):
        assert list(text) == list(row)
        for key, value in row.items():
            if value is None:
                assert text[key] == ""
            else:
                assert type(value)(text[key]) == value
    first, second = content["rows"][:2]
    assert second["speedup"] == pytest.approx(first["p50_ms"] / second["p50_ms"])
    assert second["speedup_low"] == pytest.approx(first["p50_ms_low"] / second["p50_ms_high"])
    assert first["speedup"] is None


def test_figures_are_svg_with_text_and_without_date(made: Made) -> None:
    for name in (
        "latency_vs_quality",
        "reliability",
        "forest",
        "roofline",
        "training",
    ):
        text = (made.out / "figures" / f"{name}.svg").read_text()
        root = ET.fromstring(text)
        assert root.tag.endswith("svg")
        assert root.attrib["aria-label"]
        assert "<text" in text
        assert not re.search(r"dc:date|<metadata|\d{4}-\d\d-\d\dT", text)
    forest = (made.out / "figures" / "forest.svg").read_text()
    for name in ("★ df (n=", "★ vasc (n=", "nv (n="):
        assert name in forest
    ticks = re.findall(r">[+−]?(\d\.\d\d)<", forest)
    assert 0.05 <= max(map(float, ticks)) < 1  # the axis spans differences, not counts


def test_the_same_input_gives_the_same_bytes_and_old_checklists_go(
    made: Made,
) -> None:
    again = made.out.with_name("again")  # as far from the results, since the page links to them
    (again / "checklists").mkdir(parents=True)
    (again / "checklists" / "candidate-that-left-the-sweep.md").write_text("old")
    stage.run(SWEEP, made.entries, out=again)
    files = sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(made.out) for p in made.out.rglob("*") if p.is_file())
    tables = len(list((made.out / "tables").iterdir()))
    assert tables % 3 == 0
    assert len(files) == 1 + 2 + 7 + 3 * len(made.entries) + tables
    for file in files:
        assert (again / file).read_bytes() == (made.out / file).read_bytes(), file


def test_metrics_count(made: Made) -> None:
    assert made.metrics == {
        "candidates": 6, "pass": 2, "inconclusive": 1, "fail": 1, "invalid_timings": 1,
        "invalid_in_turns": 0, "refused": 0,
    }  # fmt: skip


def test_text_from_data_is_escaped_everywhere(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script> & $\\frac{1}$ \"q\" |"
    names: dict[str, Any] = {"classes": ["a", evil, "c<b>"], "rare": [evil], "n": 400}
    specs = [
        Spec(**names),
        Spec(recipe="ptq_int8", verdict="fail", leaks=[f"{evil} twice"], loss={evil: 0.5}, **names),
    ]
    entries = build(tmp_path / "in", specs)
    for entry in entries:
        verdict = read_json(entry.assess.verdict)
        write_json(entry.assess.verdict, verdict | {"reasons": [evil]})
        parity = read_json(entry.export.parity)
        write_json(entry.export.parity, parity | {"engine": {evil: evil}})
    stage.run({"name": evil, "description": evil}, entries, out=tmp_path / "out")
    html = (tmp_path / "out" / "index.html").read_text()
    page = Page(html)
    assert page.scripts == 1  # ours
    assert "<script>alert" not in html
    assert "c<b>" not in html
    for figure in (tmp_path / "out" / "figures").iterdir():
        ET.fromstring(figure.read_text())
    assert "frac" in (tmp_path / "out" / "figures" / "forest.svg").read_text()
    for file in (tmp_path / "out" / "checklists").glob("*.md"):
        assert "<script>" not in file.read_text()
        json.loads(file.with_suffix(".json").read_text())


def test_several_data_sets_seeds_and_devices(tmp_path: Path) -> None:
    small: dict[str, Any] = {"classes": ["a", "b", "c"], "rare": ["c"], "n": 300}
    specs = [
        Spec(seed=seed, recipe=recipe, verdict=verdict, **small)
        for seed in (0, 1)
        for recipe, verdict in (("fp32", "reference"), ("ptq_int8", "pass"))
    ]
    specs[3].valid = False
    specs += [Spec(data="other", devices=("host", "phone"), **small)]
    report = make(tmp_path, specs)
    html = (report.out / "index.html").read_text()
    page = Page(html)
    assert len(page.ids) == len(set(page.ids))
    assert len(page.images) == 9  # "other" has nothing compressed, so no figure of that
    rows = json.loads((report.out / "comparison.json").read_text())["rows"]
    assert [(r["data"], r["seed"], r["device"]) for r in rows][-2:] == [
        ("other", 0, "host"), ("other", 0, "phone")
    ]  # fmt: skip
    means = next(t for t in page.tables if t[0][2] == "Seeds")
    ptq = dict(zip(means[0], means[2], strict=True))
    recall = [r["rare_recall"] for r in rows if r["recipe"] == "ptq_int8"]
    assert ptq["Seeds"] == "2"
    assert ptq["Verdicts"] == "2 pass"
    assert ptq["Rare recall"].startswith(fixed(sum(recall) / 2))
    assert "n = 1" in ptq["p50ms"]  # the INVALID timing is left out


def test_no_compressed_candidate(tmp_path: Path) -> None:
    report = make(tmp_path, [Spec(n=400)])
    html = (report.out / "index.html").read_text()
    Page(html)
    assert "no verdict: the page describes 1 reference model" in html
    assert "A pass says" not in html
    assert report.metrics["pass"] == 0
    assert "No compressed candidate" in (report.out / "figures" / "forest.svg").read_text()


def test_missing_reference_and_missing_optional_values(tmp_path: Path) -> None:
    report = make(tmp_path, [Spec(recipe="ptq_int8", verdict="pass", devices=(), n=400, rare=[])])
    html = (report.out / "index.html").read_text()
    Page(html)
    assert "The one compressed candidate may replace its reference" in html
    assert "Its reference is not in this sweep" in html
    row = json.loads((report.out / "comparison.json").read_text())["rows"][0]
    assert row["device"] is row["p50_ms"] is row["speedup"] is row["rare_recall"] is None
    assert "Not profiled on any device" in html


def test_default_sweep_covers_every_verdict() -> None:
    assert {s.verdict for s in default_sweep()} == {"reference", "pass", "fail", "inconclusive"}


def test_exemplars_stand_beside_their_null_and_show_their_pictures(tmp_path: Path) -> None:
    rate = {"class": "df", "n": 20, "count": 5.0, "rate": 0.25}
    halves = {"compressed": 0.125, "null": 0.0625, "per_class": [{**rate, "rate": 0.5}],
              "null_per_class": [{**rate, "rate": 0.375}]}  # fmt: skip
    picture = "data:image/png;base64,AAAA"
    sheet = [{"index": 7, "true": "df", "before": "df", "after": "nv", "picture": picture}]
    entry = {"model": "mobileone_s0", "recipe": "ptq_int8", "against": "fp32", "seeds": 2,
             "modal": {"rate": 0.1875, "per_class": [rate], "halves": halves}, "sheet": sheet}  # fmt: skip
    between = {"model": "mobileone_s0", "recipe": "qat_int8", "paired": True,
               "against": {"model": "mobileone_s0", "recipe": "ptq_int8"},
               "metrics": {"rare_recall": around(0.0625, 0.03125)}}  # fmt: skip
    specs = default_sweep()[:2]
    pooled = tmp_path / f"{specs[0].data}.json"
    write_json(
        pooled,
        {"data": specs[0].data, "n": {"test": 3000, "groups": 2220}, "seeds": [0, 1],
         "confidence_level": 0.95, "rows": [], "differences": [], "between": [between],
         "exemplars": [entry]},
    )  # fmt: skip
    stage.run(SWEEP, build(tmp_path / "in", specs), out=tmp_path / "out", pooled=[pooled])
    html = (tmp_path / "out" / "index.html").read_text()
    row = ["mobileone_s0", "ptq_int8", "0.188(0.125, 0.062)", "0.250(0.500, 0.375)"]
    assert row in [line for table in Page(html).tables for line in table]
    lines = [line for table in Page(html).tables for line in table]
    (line,) = [line for line in lines if line[:2] == ["mobileone_s0 · qat_int8", "ptq_int8"]]
    assert any(cell.startswith("+0.06") for cell in line)
    assert f'<img src="{picture}"' in html
    assert "df → nv" in html
    kept = read_json(tmp_path / "out" / "comparison.json")["pooled"][specs[0].data]
    assert kept["exemplars"] == [{key: value for key, value in entry.items() if key != "sheet"}]


def test_doubts_about_a_finished_file_are_said_first_and_everywhere(tmp_path: Path) -> None:
    entries = build(tmp_path / "in", [Spec(n=300), Spec(n=300, recipe="theirs", verdict="pass")])
    doubt = "with input 0 to 255 it is right in 70% instead of 20% of them: is input_range right?"
    for entry in entries:
        entry.train.history.unlink(missing_ok=True)
    parity = read_json(entries[1].export.parity)
    taken = {"n": 60, "correct": 0.2, "constant": 0.3, "doubts": [doubt]}
    write_json(entries[1].export.parity, {**parity, "taken": taken})
    stage.run(SWEEP, entries, out=tmp_path / "out")
    html = (tmp_path / "out" / "index.html").read_text()
    lead = html.index("1 file may be taken otherwise than meant")
    assert html.index("may replace its reference") < lead < html.index("Comparison</h")
    assert doubt.split(":")[0][1:] in html
    assert "-training" not in html, "finished files were not trained"
    [signed] = (tmp_path / "out" / "checklists").glob("*theirs.md")
    assert "may be taken otherwise than meant" in signed.read_text()
    assert f"Doubtful: mobileone_s0 theirs: {doubt}" in table(entries)


def test_every_kind_of_finding_has_words_and_stands_on_the_page(tmp_path: Path) -> None:
    assert set(LEAKS) == set(UNITS)
    entries = build(tmp_path, [Spec(n=300)])
    facts = read_json(entries[0].prepare.card)
    of = {"ids": ["x"], "groups": ["g"], "splits": ["train"], "n": 1}
    facts["leakage"]["findings"] = [{"kind": kind, **of} for kind in UNITS]
    write_json(entries[0].prepare.card, facts)
    stage.run(SWEEP, entries, out=tmp_path / "out")
    html = (tmp_path / "out" / "index.html").read_text()
    assert all(f"{words}: x (train)" in html for words in LEAKS.values())
