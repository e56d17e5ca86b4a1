"""The deployment checklist: complete, true to its sources, and honest about what is missing."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from refusals import naming
from reporting_factory import Made, Spec, build, make

from edgeward.core.errors import UserError
from edgeward.core.io import read_json, sha256
from edgeward.records.base import Interval
from edgeward.records.parity import Parity
from edgeward.reporting import stage
from edgeward.reporting.page import flat, markdown_cell

STEM = "phantom-mobileone_s0-s0-ptq_int8"


@pytest.fixture(scope="module")
def content(made: Made) -> dict[str, Any]:
    return json.loads((made.out / "checklists" / f"{STEM}.json").read_text())


def test_json_has_every_item_of_the_standard(made: Made, content: dict[str, Any]) -> None:
    paths = made.entries[1]
    safety, verdict = read_json(paths.assess.safety), read_json(paths.assess.verdict)
    profile = read_json(paths.profiles["host"])
    assert content["schema"] == "edgeward-checklist/3"
    device = content["deployment"][0]
    assert device["device"] == "host"
    assert device["engine"] == profile["engine"]
    assert device["model"] == profile["model"]
    assert device["energy"]["status"] == "not measured"
    assert device["energy"]["reason"]
    assert device["settings"] == profile["settings"]
    assert content["safety"] == safety
    assert content["verdict"] == verdict
    assert content["verdict"]["verdict"] == "fail"


def test_ece_before_is_the_reference_and_after_the_candidate(
    made: Made, content: dict[str, Any]
) -> None:
    before = read_json(made.entries[0].assess.safety)["metrics"]["ece"]
    after = read_json(made.entries[1].assess.safety)["metrics"]["ece"]
    pair = content["before_after"]["ece"]
    assert pair["before"] == before
    assert pair["after"] == after
    reference = json.loads(
        (made.out / "checklists" / "phantom-mobileone_s0-s0-fp32.json").read_text()
    )
    assert reference["before_after"] == {}


def test_provenance(made: Made, content: dict[str, Any]) -> None:
    provenance = content["provenance"]
    assert provenance["model_sha256"] == sha256(made.entries[1].export.onnx)
    assert provenance["calibration"] == {"n": 128, "sha256": "c" * 64}
    assert provenance["data"]["hashes"]["images.npy"] == "a" * 64
    assert provenance["seeds"] == {"training": 0, "data": 7, "bootstrap": 0}
    assert provenance["parity"] == Parity.read(made.entries[1].export.parity).content()
    assert provenance["versions"]["torch"] == "2.15.0"


def test_open_items_follow_from_the_files(made: Made) -> None:
    items = {
        entry.recipe + entry.model[0]: json.loads(
            (made.out / "checklists" / f"phantom-{entry.model}-s0-{entry.recipe}.json").read_text()
        )["sign_off"]["open_items"]
        for entry in made.entries
    }
    assert any("verdict is fail" in item for item in items["ptq_int8m"])
    assert any("verdict is inconclusive" in item for item in items["ptq_int8e"])
    assert any("INVALID: steal time" in item for item in items["qat_int8e"])
    assert not any("INVALID" in item for item in items["qat_int8m"])
    for found in items.values():
        assert any("Energy per inference on host is not measured" in item for item in found)
        assert any("margins" in item for item in found)


def test_markdown_says_the_same(made: Made, content: dict[str, Any]) -> None:
    text = (made.out / "checklists" / f"{STEM}.md").read_text()
    for part in (
        "onnxruntime 1.31.0", "CPUExecutionProvider", "int8", "1.31 [1.30, 1.32]", "not measured",
        "| ★ df | 26 |", "✕ fail", content["provenance"]["model_sha256"], "RMS-ECE, debiased before → after",
        "onnx_vs_torch.agreement", "64×64", "- [ ] ", "Clinical lead", "arXiv 2602.00910",
    ):  # fmt: skip
        assert part in text, part
    lines = text.splitlines()
    for above, line in itertools.pairwise(lines):
        if line.startswith("|---"):
            assert above.count("|") == line.count("|")
    rows = [line for line in lines if line.startswith("| recall of df")]
    assert len(rows) == 1
    assert rows[0].count("|") == 9


def test_markdown_cell_cannot_break_out() -> None:
    assert markdown_cell("a|b\n# c <i> [x](y) *z*") == ("a&#124;b # c &lt;i> [x]\\(y) \\*z\\*")
    assert markdown_cell("mobileone_s0") == "mobileone_s0"


def test_flat_reads_nested_records() -> None:
    found = dict(flat({"a": {"b": 1, "c": [1, 2]}, "d": Interval(estimate=0.5, low=0.4, high=0.6),
                       "e": [{"f": None}], "g": list(range(20)), "h": True}))  # fmt: skip
    assert found == {
        "a.b": "1", "a.c": "1, 2", "d": "0.5 [0.4000, 0.6000]", "e[0].f": "–",
        "g": "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, … (20 in all)", "h": "yes",
    }  # fmt: skip


def test_a_profile_of_another_model_is_refused(tmp_path: Path) -> None:
    entries = build(tmp_path / "in", [Spec(n=300)])
    entries[0].export.onnx.write_bytes(b"exported again")
    with pytest.raises(
        UserError, match=naming("phantom-mobileone_s0-s0-fp32", "host", "model.onnx", "profile")
    ):
        stage.run({"name": "x"}, entries, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_ece_before_without_the_reference_comes_from_the_verdict(tmp_path: Path) -> None:
    report = make(tmp_path, [Spec(recipe="ptq_int8", verdict="pass", n=300)])
    found = read_json(report.out / "checklists" / f"{STEM}.json")["before_after"]["ece"]
    verdict = read_json(report.entries[0].assess.verdict)
    expected = next(e["reference"] for e in verdict["endpoints"] if e["metric"] == "ece")
    assert found["before"] == expected
