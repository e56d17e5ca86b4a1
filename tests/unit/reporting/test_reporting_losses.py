"""What was lost outside the endpoints, and why: on the page, in the checklist and in the terminal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from refusals import naming
from reporting_factory import SWEEP, Made, default_sweep, make

from edgeward.core.errors import UserError
from edgeward.core.io import read_json, write_json
from edgeward.pipeline.paths import ResultPaths
from edgeward.reporting import stage
from edgeward.reporting.summary import table

LOST = {"estimate": -0.187, "low": -0.205, "high": -0.169}
SAME = {"estimate": 0.0004, "low": -0.001, "high": 0.0018}


def damage(paths: ResultPaths) -> None:
    """Let a candidate that passes have lost a common class, by a moved threshold; and mark a critical class."""
    safety, verdict = read_json(paths.assess.safety), read_json(paths.assess.verdict)
    assert verdict["verdict"] == "pass"
    name = safety["per_class"][-1]["class"]
    share = {"estimate": 0.5, "low": 0.4, "high": 0.6}
    verdict["also_lost"] = [
        {"name": f"sensitivity of {name}", "metric": f"recall_{name}", "subset": name, "n": 2223,
         "reference": share, "compressed": share, "difference": LOST, "p_holm": 1e-9}
    ]  # fmt: skip
    verdict["decisions"] = [
        {"class": name, "difference": LOST, "auc": SAME, "aligned": SAME, "offset": 0.93, "cause": "threshold"}
    ]  # fmt: skip
    verdict["endpoints"].append(
        verdict["endpoints"][0]
        | {"name": f"least recall of {name}", "floor": 0.4, "reason": "not beyond it"}
    )
    verdict["strata"] = [
        {"column": "sex", "value": value, "n": 900, "n_groups": groups, "enough": groups >= 30,
         "reference": {"accuracy": share, f"recall_{name}": share},
         "compressed": {"accuracy": share, f"recall_{name}": share},
         "differences": {"accuracy": SAME, f"recall_{name}": LOST}}
        for value, groups in (("female", 700), ("male", 12))
    ]  # fmt: skip
    verdict["interactions"] = [
        {"column": "sex", "metric": "accuracy", "values": ["female", "male"], "q": 7.5, "freedom": 1, "p": 0.006}
    ]  # fmt: skip
    verdict["corruptions"] = [
        {"corruption": "blur", "severity": 3, "metric": "accuracy", "n": 1234, "n_groups": 900, "clean": SAME,
         "reference": share, "compressed": share, "difference": LOST, "beyond_clean": LOST}
    ]  # fmt: skip
    curve = {"fpr": [0.0, 0.1, 1.0], "tpr": [0.0, 0.8, 1.0], "precision": [1.0, 0.4, 0.1]}
    safety["selective"] = {"coverage": [0.1, 0.5, 1.0], "risk": [0.01, 0.05, 0.2]}
    safety["curves"] = {row["class"]: curve for row in safety["per_class"] if row["n"]}
    safety["per_class"][-1]["critical"] = True
    safety["critical_classes"] = [name]
    write_json(paths.assess.verdict, verdict)
    write_json(paths.assess.safety, safety)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Made, ResultPaths]:
    made = make(tmp_path_factory.mktemp("lost"), default_sweep())
    pairs = zip(made.specs, made.entries, strict=True)
    paths = next(entry for spec, entry in pairs if spec.verdict == "pass")
    damage(paths)
    stage.run(SWEEP, made.entries, out=made.out)
    return made, paths


def test_the_first_screen_names_it(damaged: tuple[Made, ResultPaths]) -> None:
    made, _ = damaged
    page = (made.out / "index.html").read_text()
    head = page[: page.index("<h2>Comparison")]
    assert "Also lost, outside the endpoints: sensitivity of" in head
    assert "−0.187" in head
    assert "the threshold moved" in page
    assert "at least 0.4" in page
    assert "▲ " in page
    assert "Subgroups" in page
    assert "Worse images" in page
    assert "no: too few groups" in page
    assert "does accuracy change alike in female and male?" in page


def test_checklist_and_terminal_name_it(damaged: tuple[Made, ResultPaths], tmp_path: Path) -> None:
    made, paths = damaged
    stem = f"{paths.data}-{paths.model}-s{paths.seed}-{paths.recipe}"
    content: dict[str, Any] = read_json(made.out / "checklists" / f"{stem}.json")
    assert content["verdict"]["also_lost"][0]["subset"] == content["safety"]["classes"][-1]
    assert any("outside the endpoints" in item for item in content["sign_off"]["open_items"])
    text = (made.out / "checklists" / f"{stem}.md").read_text()
    assert "**Also lost**, outside the endpoints" in text
    assert "| threshold |" in text
    assert "| sex male | 900 (12) |" in text
    assert "| blur | 3 |" in text
    assert any("looked at sex only" in item for item in content["sign_off"]["open_items"])
    assert "Also lost, outside the endpoints: " in table(made.entries)


def test_what_a_device_decides_is_told(tmp_path: Path) -> None:
    made = make(tmp_path, default_sweep())
    pairs = zip(made.specs, made.entries, strict=True)
    entries = []
    for spec, plain in pairs:
        paths = replace(plain, deciding=("board",))
        safety, verdict = read_json(paths.assess.safety), read_json(paths.assess.verdict)
        agreement = {"estimate": 0.953, "low": 0.94, "high": 0.965, "n": 1234}
        safety["on"] = {
            "device": "board", "engine": "tinyrt 3.2", "emulated": True, "host_engine": "onnxruntime 1.31",
            "agreement": agreement,
        }  # fmt: skip
        if spec.verdict == "pass":
            verdict |= {"verdict": "fail", "reasons": ["fail: recall of df: worse there."]}
        write_json(paths.decided["board"].safety, safety)
        write_json(paths.decided["board"].verdict, verdict)
        entries.append(paths)
    stage.run(SWEEP, entries, out=made.out)
    page = (made.out / "index.html").read_text()
    assert "By what board decides: fail." in page[: page.index("<h2>Comparison")]
    assert "tinyrt 3.2, emulated decides" in page
    passed = next(e for s, e in zip(made.specs, entries, strict=True) if s.verdict == "pass")
    stem = made.out / "checklists" / f"{passed.data}-{passed.model}-s{passed.seed}-{passed.recipe}"
    content: dict[str, Any] = read_json(stem.with_name(f"{stem.name}.json"))
    assert content["verdict"]["verdict"] == "pass"
    assert content["decided"][0]["verdict"]["verdict"] == "fail"
    assert any("By what board decides" in item for item in content["sign_off"]["open_items"])
    text = stem.with_name(f"{stem.name}.md").read_text()
    assert "### By what board decides: ✕ fail" in text
    assert "recall of df: worse there" in text
    assert (
        f"Decided on board: {passed.model} {passed.recipe}: fail; as the host in 0.953 of"
        in table(entries)
    )
    write_json(passed.decided["board"].safety, read_json(passed.assess.safety))
    with pytest.raises(UserError, match=naming("decide/board/safety.json", "on")):
        stage.run(SWEEP, entries, out=made.out)
