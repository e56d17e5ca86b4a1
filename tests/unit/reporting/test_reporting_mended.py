"""What readers of the page once stumbled over, and shall not again."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from html_page import Page
from matplotlib.figure import Figure
from PIL import Image
from reporting_factory import SWEEP, Made, Spec, build, make

from edgeward.core import svg
from edgeward.core.io import read_json, write_json
from edgeward.core.palette import DARK, LIGHT
from edgeward.reporting import stage
from edgeward.reporting.figures.common import logarithmic
from edgeward.reporting.headline import headline, question
from edgeward.reporting.sweep import Sweep


def _narrow(plain: bool) -> str:
    with svg.style():
        figure = Figure()
        axes = figure.subplots()
        axes.plot([2.1, 3.4], [1, 2])
        axes.set_xscale("log")
        if plain:
            logarithmic(axes.xaxis)
        return svg.standalone(figure, "a narrow axis")


def test_a_logarithmic_axis_of_less_than_a_decade_has_plain_numbers() -> None:
    assert "mathdefault" in _narrow(plain=False)
    assert "mathdefault" not in _narrow(plain=True)
    assert re.search(r"<text[^>]*>2</text>", _narrow(plain=True)) is None  # no tick outside of it


def test_the_page_names_the_question_the_processor_and_drawn_data(
    made: Made, tmp_path: Path
) -> None:
    html = (made.out / "index.html").read_text()
    assert "May ptq_int8 or qat_int8 replace fp32 on phantom?</h1>" in html
    assert "host (Example CPU, 2 cores)" in html
    assert "SYNTHETIC" not in html
    entries = build(tmp_path / "in", [Spec(n=60)])
    card = read_json(entries[0].prepare.card)
    write_json(
        entries[0].prepare.card, {**card, "synthetic": True, "meanings": {"mel": "melanoma"}}
    )
    stage.run(SWEEP, entries, out=tmp_path / "out")
    html = (tmp_path / "out" / "index.html").read_text()
    assert "SYNTHETIC DATA" in html
    assert "<b>mel</b> melanoma" in html
    assert question(Sweep.read(entries)) == "How good and how fast: mobileone_s0 on phantom"


def test_verdicts_are_sorted_by_what_they_allow(made: Made) -> None:
    html = (made.out / "index.html").read_text()
    order = re.findall(r'data-v="(\d)"><span class="badge (\w+)">', html)
    assert {word: int(place) for place, word in order} == {
        "pass": 0, "inconclusive": 1, "fail": 2, "reference": 3
    }  # fmt: skip


def test_the_pareto_front_joins_nothing_that_failed(tmp_path: Path) -> None:
    specs = [
        Spec(p50=2.0, n=1500),
        Spec(recipe="ptq_int8", verdict="fail", p50=0.5, skill=3.0, n=1500),
        Spec(recipe="qat_int8", verdict="pass", p50=1.0, n=1500),
        Spec(model="large", p50=5.0, skill=9.0, n=1500),
    ]
    made = make(tmp_path, specs)
    drawn = ET.parse(made.out / "figures" / "latency_vs_quality.svg").getroot()
    said = drawn.attrib["aria-label"]
    assert "fastest is mobileone_s0 ptq_int8" in said
    front = said[said.index("Pareto front") :]
    assert "ptq_int8" not in front
    assert "large fp32" in front


def test_a_pass_on_a_weak_reference_says_so(tmp_path: Path) -> None:
    weak: dict[str, Any] = {"skill": 0.2, "n": 3000}
    entries = build(tmp_path, [Spec(**weak), Spec(recipe="qat_int8", verdict="pass", **weak)])
    found = headline(Sweep.read(entries))
    (finding,) = found.findings
    assert "finds less than half: recall of" in finding.warning
    assert "1 pass the reference itself is weak" in found.lead
    strong: dict[str, Any] = {"skill": 5.0, "n": 3000}
    entries = build(
        tmp_path / "s", [Spec(**strong), Spec(recipe="qat_int8", verdict="pass", **strong)]
    )
    (finding,) = headline(Sweep.read(entries)).findings
    assert finding.warning == ""


def test_leaks_are_sentences(tmp_path: Path) -> None:
    made = make(tmp_path, [Spec(n=60, leaks=["case7"])])
    html = (made.out / "index.html").read_text()
    assert "nearly identical images: case7 (train)" in html
    assert "near_identical" not in html


def test_confusion_is_readable_at_every_shade() -> None:
    css = (Path(stage.__file__).parent / "templates" / "style.css").read_text()
    most = int(re.findall(r"\.heat td \{.*calc\(var\(--v\) \* (\d+)%\)", css)[0]) / 100

    def rgb(colour: str) -> np.ndarray:
        return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255

    def luminance(colour: np.ndarray) -> float:
        linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for theme in (LIGHT, DARK):
        for share in np.linspace(0, most, 50):
            cell = share * rgb(theme["accent"]) + (1 - share) * rgb(theme["sunken"])
            low, high = sorted((luminance(cell), luminance(rgb(theme["ink"]))))
            assert (high + 0.05) / (low + 0.05) >= 4.5  # WCAG 2.2, 1.4.3


def test_changed_images_are_shown_with_truth_before_and_after(made: Made) -> None:
    reference, ptq = made.entries[:2]
    before, after = (np.load(e.assess.cases / "logits.npy").argmax(1) for e in (reference, ptq))
    truth = np.load(reference.prepare.labels)
    lost = int(((before == truth) & (after != truth)).sum())
    html = (made.out / "index.html").read_text()
    section = html[html.index('id="data-0-changed"') :]
    section = section[: section.index("<h3>Calibration")]
    said = re.search(r"(\S+) of 3\u202f000 decided differently, (\S+) lost", section)
    assert said is not None
    assert said[1].replace("\u202f", "") == str(int((before != after).sum()))
    assert said[2].replace("\u202f", "") == str(lost)
    shown = re.findall(
        r'src="data:image/webp;base64,([^"]+)" alt="Test image (\d+): truth (\w+); fp32 says (\w+), ptq_int8 says (\w+)"',
        section,
    )
    shown = shown[:12]  # the first model's; the other has as many
    classes = read_json(reference.prepare.card)["classes"]
    for uri, index, *names in shown:
        i = int(index)
        assert names == [classes[truth[i]], classes[before[i]], classes[after[i]]]
        assert Image.open(io.BytesIO(base64.b64decode(uri))).size == (4, 4)
    rare = [name in ("df", "vasc") for _, _, name, _, _ in shown]
    assert rare == sorted(rare, reverse=True)


def test_links_lead_to_the_file_that_ships(made: Made) -> None:
    links = Page((made.out / "index.html").read_text()).links
    for entry in made.entries:
        assert any((made.out / link).resolve() == entry.export.onnx.resolve() for link in links)


@pytest.mark.parametrize("shift", [False, True])
def test_confidences_near_zero_are_explained_where_they_can_be(tmp_path: Path, shift: bool) -> None:
    entries = build(tmp_path / "in", [Spec(n=60)])
    if shift:
        safety = read_json(entries[0].assess.safety)
        write_json(entries[0].assess.safety, {**safety, "logit_shift": [-0.1] * 7})
    stage.run(SWEEP, entries, out=tmp_path / "out")
    assert (
        "Confidences near 0 are no mistake" in (tmp_path / "out" / "index.html").read_text()
    ) == shift
