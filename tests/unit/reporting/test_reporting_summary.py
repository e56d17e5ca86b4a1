"""Loading, headline and the terminal's table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from refusals import naming
from reporting_factory import Made, Spec, build, default_sweep

from edgeward.core.errors import UserError
from edgeward.core.io import read_json, write_json
from edgeward.pipeline.paths import ResultPaths
from edgeward.reporting.headline import headline
from edgeward.reporting.load import load, load_all
from edgeward.reporting.summary import table
from edgeward.reporting.sweep import Sweep


def test_the_table_has_one_aligned_row_per_candidate(made: Made) -> None:
    text = table(made.entries)
    lines = text.splitlines()
    assert all(len(line) <= 120 for line in lines)
    head, rule, *rows = lines[: 2 + len(made.entries)]
    assert set(rule) == {"-"}
    assert head.split()[:3] == ["model", "recipe", "verdict"]
    for entry, row in zip(made.entries, rows, strict=True):
        assert row.startswith(entry.model)
        assert len(row) == len(head)
        safety = read_json(entry.assess.safety)
        auc, recall, ece = (safety["metrics"][name] for name in ("auc_macro", "rare_recall", "ece"))
        assert row.split()[-5:] == [
            f"{auc['estimate']:.3f}",
            f"{recall['estimate']:.3f}",
            f"[{recall['low']:.3f},",
            f"{recall['high']:.3f}]",
            f"{ece['estimate']:.3f}",
        ]
    assert "+ pass" in rows[2]
    assert "x fail" in rows[1]
    assert "? inconclusive" in rows[4]
    assert "1.30 / 1.44" in rows[2]
    assert "1.85~" in rows[2]  # timed at another time than the reference
    assert "~ x ref is of two timings" in text
    assert "1.14!" in rows[5]
    assert "5.49!" in rows[5]
    assert "INVALID" in text
    assert "1\u202f873 timed inferences" in text


def test_the_widest_table_fits_too(tmp_path: Path) -> None:
    name = "a_very_long_model_name_that_nobody_would_choose_in_earnest"
    specs = [
        Spec(data=data, model=name, seed=seed, recipe=recipe, verdict=verdict, n=300,
             devices=("host", "phone_with_a_name"))
        for data in ("phantom", "a_data_set_with_quite_a_name")
        for seed in (0, 1)
        for recipe, verdict in (("fp32", "reference"), ("prune_distil_low_rank_qat_int8", "pass"))
    ]  # fmt: skip
    lines = table(build(tmp_path, specs)).splitlines()
    assert max(map(len, lines)) <= 120
    assert len([line for line in lines if "…" in line]) >= 16


def test_an_unfinished_sweep_still_has_a_table(tmp_path: Path) -> None:
    entries = build(tmp_path, [Spec(n=300), Spec(n=300, recipe="ptq_int8", verdict="pass")])
    entries[0].profiles["host"].unlink()
    entries[1].assess.verdict.unlink()
    text = table(entries)
    assert "– / –" in text
    assert "1 of 2 candidates not finished." in text
    entries[0].assess.safety.unlink()
    assert table(entries) == "No candidate is finished.\n2 of 2 candidates not finished.\n"


def test_the_table_is_cheap_to_import() -> None:
    code = (
        "import sys, edgeward.reporting.summary;"
        "print([m for m in ('numpy', 'matplotlib', 'jinja2', 'PIL', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_stage_loads_no_torch_and_no_mlflow() -> None:
    code = (
        "import sys, edgeward.reporting.stage;"
        "print([m for m in ('torch', 'mlflow', 'pandas', 'scipy', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("verdicts", "lead"),
    [
        ([], "No compressed candidate"),
        (["pass"], "The one compressed candidate may replace its reference"),
        (["inconclusive"], "cannot be cleared: the evidence does not decide"),
        (["fail"], "must not replace its reference"),
        (["pass", "pass"], "All 2 compressed candidates may replace their references"),
        (["pass", "fail"], "1 of 2 compressed candidates may replace its reference; 1 is shown to be worse."),
        (["fail", "inconclusive"], "None of the 2 compressed candidates can be cleared for use; 1 "
         "is shown to be worse and for 1 the evidence does not decide."),
    ],
)  # fmt: skip
def test_the_lead_says_what_the_verdicts_say(
    tmp_path: Path, verdicts: list[str], lead: str
) -> None:
    specs = [Spec(n=300)]
    specs += [Spec(n=300, recipe=f"r{i}", verdict=v) for i, v in enumerate(verdicts)]
    assert lead in headline(Sweep.read(build(tmp_path, specs))).lead


def test_findings_claim_no_more_than_the_timing_allows(tmp_path: Path) -> None:
    specs = default_sweep(n=400)
    specs[2].p50 = specs[0].p50  # as fast as its reference
    entries = build(tmp_path, specs)
    found = {f.candidate.key: f.text for f in headline(Sweep.read(entries)).findings}
    assert "Not measurably faster on host" in found["phantom-mobileone_s0-s0-qat_int8"]
    assert "INVALID" in found["phantom-efficientformerv2_s0-s0-qat_int8"]
    assert "×" not in found["phantom-efficientformerv2_s0-s0-qat_int8"]
    loss = read_json(entries[1].assess.verdict)["endpoints"][0]
    assert found["phantom-mobileone_s0-s0-ptq_int8"].startswith(
        f"Recall of vasc: {loss['reference']['estimate']:.3f} → {loss['compressed']['estimate']:.3f}, difference "
    )
    assert (
        "Not decided: recall of vasc (takes about 412 cases, has "
        in (found["phantom-efficientformerv2_s0-s0-ptq_int8"])
    )


def test_a_blind_reference_is_named_in_the_caveats(tmp_path: Path) -> None:
    entries = build(tmp_path, [Spec(n=300), Spec(n=300, recipe="ptq_int8", verdict="pass")])
    verdict = read_json(entries[0].assess.verdict)
    verdict["reasons"].append("It hardly finds df: recall 0.000, at most 0.140.")
    write_json(entries[0].assess.verdict, verdict)
    assert any("hardly finds df" in text for text in headline(Sweep.read(entries)).caveats)


def spoil_missing(paths: ResultPaths) -> None:
    paths.assess.safety.unlink()


def spoil_json(paths: ResultPaths) -> None:
    paths.assess.verdict.write_text("{")


def spoil_key(paths: ResultPaths) -> None:
    content = read_json(paths.assess.safety)
    del content["metrics"]["rare_recall"]
    write_json(paths.assess.safety, content)


def spoil_verdict(paths: ResultPaths) -> None:
    write_json(paths.assess.verdict, read_json(paths.assess.verdict) | {"verdict": "fine"})


def spoil_schema(paths: ResultPaths) -> None:
    path = paths.profiles["host"]
    write_json(path, read_json(path) | {"schema": "edgeward-profile/9"})


def spoil_classes(paths: ResultPaths) -> None:
    write_json(paths.prepare.card, read_json(paths.prepare.card) | {"classes": ["other"]})


def spoil_history(paths: ResultPaths) -> None:
    paths.train.history.write_text("epoch,val_auc\n0,good\n")


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (spoil_missing, ("assess/safety.json", "stage assess")),
        (spoil_json, ("verdict.json", "JSON")),
        (spoil_key, ("safety.json", "'metrics'", "rare_recall")),
        (spoil_verdict, ("verdict.json", "'verdict'", "'inconclusive'")),
        (spoil_schema, ("host.json", "'schema'", "'edgeward-profile/2'")),
        (spoil_classes, ("safety.json", "'classes'", "'other'")),
        (spoil_history, ("history.csv", "'good'")),
    ],
)
def test_bad_input_is_one_clear_error(tmp_path: Path, spoil: Any, parts: tuple[str, ...]) -> None:
    (entry,) = build(tmp_path, [Spec(n=300)])
    spoil(entry)
    with pytest.raises(UserError, match=naming(*parts)):
        load(entry)


def test_doubles_and_nothing_are_refused(tmp_path: Path) -> None:
    entries = build(tmp_path, [Spec(n=300)])
    with pytest.raises(UserError, match=naming("phantom-mobileone_s0-s0-fp32")):
        load_all(entries * 2)
    with pytest.raises(UserError, match="no candidate"):
        load_all([])
