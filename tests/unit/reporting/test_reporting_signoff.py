"""The sign-off sheet says what the verdict's record says, on three pages at most."""

from __future__ import annotations

import io
import json
import logging
import subprocess
from pathlib import Path
from typing import Any

import pytest
from guides import PROJECT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pypdf import PdfReader
from refusals import naming
from reporting_factory import SWEEP, Made, Spec, build, spread

from edgeward.core.errors import UserError
from edgeward.core.io import digest, read_json, sha256, write_json
from edgeward.core.text import fixed
from edgeward.data.config import PhantomSource
from edgeward.data.listing import Request
from edgeward.data.sources import phantom
from edgeward.pipeline.paths import ResultPaths
from edgeward.records.base import Interval
from edgeward.records.checklist import Checklist
from edgeward.records.profile import Counter, Energy, Spread
from edgeward.reporting import provenance, signoff
from edgeward.reporting.checklist import checklist
from edgeward.reporting.load import load
from edgeward.reporting.mapping import FRAMEWORKS
from edgeward.reporting.page import checklist_markdown
from edgeward.reporting.sweep import Sweep

COMMIT = provenance.commit  # before it is fixed for the tests of the room
STEM = "phantom-mobileone_s0-s0-ptq_int8"


def read(content: bytes) -> tuple[int, str]:
    """Return the number of pages and the text of a PDF, without white space: lines break in cells."""
    pages = PdfReader(io.BytesIO(content)).pages
    return len(pages), plain("".join(page.extract_text() for page in pages))


def plain(text: str) -> str:
    return "".join(text.split())


Sheets = list[tuple[Checklist, int, str]]


@pytest.fixture(scope="module")
def sheets(made: Made) -> Sheets:
    """Of every candidate the checklist, and the number of pages and the text of its sheet."""
    files = sorted((made.out / "checklists").glob("*.json"))
    return [(Checklist.read(f), *read(f.with_suffix(".pdf").read_bytes())) for f in files]


def signed(entries: list[ResultPaths], use: str = "") -> tuple[Checklist, str]:
    """Return the checklist of the last candidate of a sweep `trial`, and the text of its sheet."""
    sweep = Sweep.read(entries)
    candidate, made = sweep.candidates[-1], provenance.provenance({})
    content = checklist(candidate, sweep, name="trial", intended_use=use, made=made)
    return content, read(signoff.pdf(signoff.sheet(content, candidate)))[1]


def spelt(value: Interval, *, signed: bool = False) -> str:
    """Return an interval as a reader expects it, to three decimals."""
    estimate, low, high = (fixed(end, signed=signed) for end in value)
    return f"{estimate} [{low}, {high}]"


def test_every_candidate_has_a_sheet_with_its_verdict_and_all_endpoints(
    made: Made, sheets: Sheets
) -> None:
    assert len(sheets) == len(made.entries)
    assert {content.verdict.verdict for content, *_ in sheets} == {
        "pass", "fail", "inconclusive", "reference",
    }  # fmt: skip
    for content, pages, text in sheets:
        assert pages <= signoff.PAGES
        assert content.verdict.verdict.upper() in text
        assert plain(signoff.MEANING[content.verdict.verdict]) in text
        for e in content.verdict.endpoints:
            sides = (spelt(e.reference), spelt(e.compressed), spelt(e.difference, signed=True))
            row = "".join([e.name, *sides, f"{e.margin:g}", f"{e.n}({e.n_groups})"])
            assert plain(row) in text.replace("\u202f", ""), e.name
        for value in (
            content.provenance.model_sha256, content.provenance.data_sha256, content.provenance.sweep_sha256,
            content.provenance.lock_sha256, content.provenance.date, *FRAMEWORKS.values(), "amapping,notcompliance",
            *(line["role"] for line in content.sign_off.signatures), *content.sign_off.open_items[-6:],
        ):  # fmt: skip
            assert plain(str(value)) in text, value


def test_the_sheet_says_how_fast_where_and_with_what_energy(sheets: Sheets) -> None:
    key = ("efficientformerv2_s0", "qat_int8")
    [text] = [text for c, _, text in sheets if (c.candidate.model, c.candidate.recipe) == key]
    for part in (
        "Example CPU", "onnxruntime 1.31.0", "median", "4.95 [4.90, 5.00] ms",
        "! INVALID, do not use: steal time 4.1 %", "not measured: this machine has no energy counter",
    ):  # fmt: skip
        assert plain(part) in text, part


def test_energy_that_was_measured_is_told(made: Made) -> None:
    content = Checklist.read(made.out / "checklists" / f"{STEM}.json")
    energy = Energy(
        status="measured", verdict="VALID", reasons=[], counter=Counter(kind="rapl", domains=["package"]), batch=1, windows=3,
        inferences=900, duration_s=9.0, gross_mj=Spread(**spread(41.5)), net_mj=Spread(**spread(12.25)), idle_w=Spread(**spread(9.0)),
        load_w=Spread(**spread(20.0)),
    )  # fmt: skip
    device = content.deployment[0].model_copy(update={"energy": energy})
    content = content.model_copy(update={"deployment": [device]})
    candidate = load(made.entries[1])
    told = "12.250 mJ above idle, 41.500 mJ in all, by rapl"
    assert plain(told) in read(signoff.pdf(signoff.sheet(content, candidate)))[1]
    assert told in checklist_markdown(content, candidate)


def test_the_same_content_gives_the_same_bytes(made: Made) -> None:
    candidate = load(made.entries[1])
    content = Checklist.read(made.out / "checklists" / f"{STEM}.json")
    first, second = (signoff.pdf(signoff.sheet(content, candidate)) for _ in range(2))
    assert first == second == (made.out / "checklists" / f"{STEM}.pdf").read_bytes()


def test_json_keeps_its_published_schema(made: Made) -> None:
    schema = json.loads((PROJECT / "docs" / "schemas" / "checklist.schema.json").read_text())
    validator = Draft202012Validator(schema)
    for file in (made.out / "checklists").glob("*.json"):
        validator.validate(read_json(file))
    broken = read_json(file) | {"mapping": [{"framework": "none", "state": "complies"}]}
    assert list(validator.iter_errors(broken))


names = st.text(st.sampled_from("abcdefghij äßéçñøαβγλжшю-_"), min_size=1, max_size=30).filter(
    str.strip
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(st.lists(names, min_size=1, max_size=40, unique_by=plain), st.sampled_from(["pass", "fail", "inconclusive"]))  # fmt: skip
def test_no_endpoint_is_left_out_however_many(made: Made, found: list[str], word: str) -> None:
    content = Checklist.read(made.out / "checklists" / f"{STEM}.json")
    row = content.verdict.endpoints[0]
    rows = [row.model_copy(update={"name": n, "outcome": word, "n": 7000 + i}) for i, n in enumerate(found)]  # fmt: skip
    verdict = content.verdict.model_copy(update={"endpoints": rows, "verdict": word})
    sheet = signoff.sheet(content.model_copy(update={"verdict": verdict}), load(made.entries[1]))
    pages, text = read(signoff.pdf(sheet))
    assert pages <= signoff.PAGES
    for i, name in enumerate(found):
        assert plain(name) in text, name
        assert f"7{i:03d}({row.n_groups})" in text.replace("\u202f", "")
    assert text.count(plain(f"{sheet['endpoints'][0]['outcome']}")) >= len(found)


def test_long_lists_are_cut_and_say_so(made: Made) -> None:
    content = Checklist.read(made.out / "checklists" / f"{STEM}.json")
    items = [f"item {i}: " + "words " * 100 for i in range(30)]
    many = content.sign_off.model_copy(update={"open_items": items + content.sign_off.open_items[-6:]})  # fmt: skip
    pages, text = read(
        signoff.pdf(signoff.sheet(content.model_copy(update={"sign_off": many}), load(made.entries[1])))
    )  # fmt: skip
    assert pages <= signoff.PAGES
    assert plain(f"{30 - signoff.SHOWN} more in the checklist") in text
    assert plain(f"item {signoff.SHOWN - 1}:") in text


def test_names_in_any_script_are_shown_or_named_by_their_code_points(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rare = ["nævus", "меланома", "皮膚"]
    of: dict[str, Any] = {"classes": [*rare, "nv", "a", "b", "vasc"], "rare": rare, "n": 400}
    entries = build(tmp_path, [Spec(**of), Spec(**of, recipe="ptq_int8", verdict="fail")])
    with caplog.at_level(logging.WARNING, "edgeward.reporting.signoff"):
        content, text = signed(entries)
    assert content.safety.classes == of["classes"]
    assert "nævus" in text
    assert "меланома" in text
    if signoff._has_fonts("皮膚", system=True):
        assert "皮膚" in text
    else:
        assert "‹U+76AE›‹U+819A›" in text
        assert "U+76AE and U+819A" in caplog.text


def test_drawn_cases_are_flagged_and_others_are_not(tmp_path: Path) -> None:
    drawn = phantom.open_source(Request(PhantomSource(kind="phantom"), 32, 0, None))
    assert drawn.synthetic
    entries = build(tmp_path, [Spec(n=300)])
    for flagged in (True, False):
        card = read_json(entries[0].prepare.card)
        write_json(entries[0].prepare.card, card | {"synthetic": flagged})
        content, text = signed(entries)
        markdown = checklist_markdown(content, load(entries[0]))
        assert ("SYNTHETIC" in text, "SYNTHETIC" in markdown) == (flagged, flagged)
        assert content.synthetic == flagged


@pytest.mark.parametrize("use", ["Second reader in screening; not alone. Not for children.", ""])
def test_intended_use_is_the_sweeps_or_is_missed(tmp_path: Path, use: str) -> None:
    content, text = signed(build(tmp_path, [Spec(n=300)]), use)
    assert content.intended_use == (use or None)
    asked = "Not stated. Write it in the sweep: intended_use in config/sweeps/trial.yaml"
    assert plain(use or asked) in text
    state = {m.item: m.state for m in content.mapping}
    assert state["3b"] == state["Annex IV(1)"] == ("in part" if use else "not given")
    assert {m.framework for m in content.mapping} == set(FRAMEWORKS)


def test_provenance_stands_in_every_report(made: Made, sheets: Sheets) -> None:
    ours = read_json(made.out / "comparison.json")["provenance"]
    html = (made.out / "index.html").read_text()
    assert ours["sweep_sha256"] == digest(SWEEP)
    assert ours["lock_sha256"] == sha256(PROJECT / "requirements.lock")
    assert ours["date"] == "2025-11-29"
    assert ours["packages"]["numpy"]
    for value in (ours["library"]["commit"], ours["date"], ours["sweep_sha256"], ours["python"]):
        assert value in html
    for content, *_ in sheets:
        assert ours.items() <= content.provenance.content().items()
        c = content.candidate
        assert f'href="checklists/{c.data}-{c.model}-s0-{c.recipe}.pdf"' in html


def test_hashes_of_the_slices_that_stages_read(tmp_path: Path) -> None:
    entries = build(tmp_path, [Spec(n=300)])
    entries[0].export.config.write_text("opset: 18\n")
    found = signed(entries)[0].provenance
    assert found.config_sha256 == {"export": sha256(entries[0].export.config)}
    assert found.data_sha256 == digest(read_json(entries[0].prepare.card)["hashes"])


def test_commit_of_a_folder(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True)  # fmt: skip
        return done.stdout.strip()

    assert COMMIT(tmp_path) is None
    git("init", "-q")
    assert COMMIT(tmp_path) is None  # nothing is committed
    (tmp_path / ".gitignore").write_text("results/\n")
    git("add", ".")
    git("commit", "-qm", "first")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "x").write_text("ignored")
    found = COMMIT(tmp_path / "results")
    assert found is not None
    assert (found.commit, found.dirty) == (git("rev-parse", "HEAD"), False)
    (tmp_path / "config.yaml").write_text("not known to git")
    changed: Any = COMMIT(tmp_path)
    assert changed.dirty


def test_a_wrong_date_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(UserError, match=naming("SOURCE_DATE_EPOCH", "yesterday", "seconds")):
        provenance.provenance({})
