"""Reports of segmentation, alone and beside classification, from files that assess really writes."""

from __future__ import annotations

import base64
import csv
import io
import itertools
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from html_page import REMOTE, Page
from PIL import Image
from refusals import naming
from reporting_factory import Spec, build
from segmentation_factory import PLANE, VOLUMES, candidates, family, masks

import edgeward
from edgeward.core import plugins
from edgeward.core.errors import UserError
from edgeward.core.io import read_json, write_json
from edgeward.core.text import fixed
from edgeward.pipeline.closure import Closure
from edgeward.pipeline.paths import ResultPaths
from edgeward.records.checklist import Checklist
from edgeward.records.safety import Safety
from edgeward.reporting import stage
from edgeward.reporting.figures import Key
from edgeward.reporting.headline import headline
from edgeward.reporting.load import load, load_all
from edgeward.reporting.summary import table
from edgeward.reporting.sweep import Sweep
from edgeward.tasks.page import Shown
from edgeward.tasks.segmentation import overlays, volumes


def views(entries: list[ResultPaths]) -> list[Shown]:
    """What the task gets of candidates."""
    members = load_all(entries)
    return [stage.shown(c, Key(members)) for c in members]


class Mixed(NamedTuple):
    """A report of images, volumes and classification on one page."""

    entries: list[ResultPaths]
    out: Path
    html: str
    page: Page


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Mixed:
    root = tmp_path_factory.mktemp("mixed")
    entries = candidates(root / "2d", PLANE, family(PLANE, "u_lite", 1.0))
    entries += candidates(root / "3d", VOLUMES, family(VOLUMES, "unet", 1.0))
    entries += build(root / "c", [Spec(n=300), Spec(n=300, recipe="ptq_int8", verdict="pass")])
    stage.run({"name": "mixed"}, entries, out=root / "out")
    html = (root / "out" / "index.html").read_text()
    return Mixed(entries, root / "out", html, Page(html))


def test_one_page_for_all_tasks(mixed: Mixed) -> None:
    assert len(mixed.page.ids) == len(set(mixed.page.ids))
    assert not REMOTE.search(mixed.html)
    for link in mixed.page.links:
        assert link[1:] in mixed.page.ids if link.startswith("#") else (mixed.out / link).is_file()
    heads = [t[0] for t in mixed.page.tables if t[0][:2] == ["Model", "Recipe"] and "p50ms" in t[0]]
    plane, volume, images = heads
    assert {"Diceper image", "Δ Diceto reference", "HD95px", "RMS-ECEat boundaries"} <= {*plane}
    assert {"HD95mm", "Small lesionsfound"} <= {*volume}
    assert "Small lesionsfound" not in plane  # not asked for there
    assert {"AUCmacro", "Rare recall", "Δ Rare recallto reference"} <= {*images}
    assert not {"AUCmacro", "Rare recall"} & {*plane, *volume}
    assert not {"Diceper image", "HD95px"} & {*images}


def test_the_table_shows_what_assess_found(mixed: Mixed) -> None:
    tables = [t for t in mixed.page.tables if t[0][:2] == ["Model", "Recipe"] and "p50ms" in t[0]]
    rows = [dict(zip(t[0], cells, strict=True)) for t in tables[:2] for cells in t[1:]]
    for entry, row in zip(mixed.entries, rows, strict=False):
        safety = Safety.read(entry.assess.safety)
        for name, column in (("dice", "Diceper image"), ("surface_dice", "Surface Dice"),
                             ("boundary_ece", "RMS-ECEat boundaries")):  # fmt: skip
            record = safety.metrics[name]
            ends = f"[{fixed(record.low)}, {fixed(record.high)}]"
            assert row[column] == fixed(record.estimate) + ends
        verdict = read_json(entry.assess.verdict)
        if verdict["verdict"] != "reference":
            moved = fixed(verdict["differences"]["dice"]["estimate"], signed=True)
            assert row["Δ Diceto reference"].startswith(moved)


def test_rows_hold_only_what_their_task_has(mixed: Mixed) -> None:
    content = json.loads((mixed.out / "comparison.json").read_text())["rows"]
    by_task = {task: {key for r in content if r["task"] == task for key in r}
               for task in ("segmentation", "multiclass")}  # fmt: skip
    assert {"dice", "delta_hd95_low", "boundary_ece", "n_lesions"} <= by_task["segmentation"]
    assert not {"auc_macro", "rare_recall", "n_rare"} & by_task["segmentation"]
    assert not {"dice", "hd95", "n_lesions"} & by_task["multiclass"]
    with (mixed.out / "comparison.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [r["dice"] == "" for r in rows] == [False] * 4 + [True] * 2
    assert [r["auc_macro"] == "" for r in rows] == [True] * 4 + [False] * 2


def test_the_terminal_has_a_table_for_each_task(mixed: Mixed) -> None:
    text = table(mixed.entries)
    heads = [line for line in text.splitlines() if line.lstrip().startswith(("data", "model"))]
    assert len(heads) == 2
    assert heads[0].split()[-4:] == ["small", "RMS-ECE", "at", "rim"]
    assert heads[1].split()[-1] == "RMS-ECE"
    assert max(map(len, text.splitlines())) <= 120
    estimate, low, high = Safety.read(mixed.entries[0].assess.safety).metrics["dice"]
    assert f"{estimate:.3f} [{low:.3f}, {high:.3f}]" in text
    assert "58 lesions, 19 of them small" in text


def test_headline_and_reasons_speak_of_dice(mixed: Mixed) -> None:
    found = headline(Sweep.read(mixed.entries))
    assert found.counts == {"pass": 1, "inconclusive": 0, "fail": 2}
    texts = {f.candidate.data: f.text for f in found.findings}
    assert texts["spots"].startswith("Dice of lesion: ")
    assert any(
        "its Dice per image and sensitivity for each class" in text for text in found.caveats
    )


def test_a_class_that_the_reference_misses_is_a_caveat(tmp_path: Path) -> None:
    entries = candidates(tmp_path, PLANE, family(PLANE, "u_lite", 1.0))
    verdict = read_json(entries[0].assess.verdict)
    verdict["reasons"].append("It hardly finds lesion: Dice 0.010, at most 0.020.")
    write_json(entries[0].assess.verdict, verdict)
    assert any("hardly finds lesion" in text for text in headline(Sweep.read(entries)).caveats)


def test_the_forest_has_classes_mean_surfaces_and_lesions(mixed: Mixed) -> None:
    text = (mixed.out / "figures" / "forest.svg").read_text()
    for label in ("Dice, lesion (n=39)", "Dice, ★ lesion (n=19)", "Dice per image", "surface Dice",
                  "small lesions found (n=19)", "★ df (n="):  # fmt: skip
        assert f">{label}" in text
    assert text.count(">small lesions found") == 1  # not where small lesions are not asked for


def test_checklists(mixed: Mixed) -> None:
    stem = mixed.out / "checklists" / "organs-unet-s0-ptq_int8"
    content = Checklist.read(stem.with_suffix(".json"))
    assert content.safety == Safety.read(mixed.entries[3].assess.safety)
    assert content.safety.per_class[1].counts["small_lesions"] == 19
    assert content.provenance.data.length_unit == "mm"
    before = Safety.read(mixed.entries[2].assess.safety)
    assert content.before_after["boundary_ece"].before == before.metrics["boundary_ece"]
    assert content.before_after["boundary_ece"].after == content.safety.metrics["boundary_ece"]
    text = stem.with_suffix(".md").read_text()
    for part in ("| Dice per image |", "| HD95, mm |", "RMS-ECE, at boundaries before → after",
                 "58 lesions, 19 of them small", "| ★ lesion | 19 |"):  # fmt: skip
        assert part in text, part
    assert "AUC" not in text
    lines = text.splitlines()
    for above, line in itertools.pairwise(lines):
        if line.startswith("|---"):
            assert above.count("|") == line.count("|")


def pictures(html: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/webp;base64,([^"]+)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(f))).convert("RGB")) for f in found]


def test_worst_median_and_best_are_shown_with_what_changed(mixed: Mixed) -> None:
    shown = pictures(
        "".join(re.findall(r'<figure class="gallery".*?</figure>', mixed.html, re.DOTALL))
    )
    assert len(shown) == 2 * 3 * 4  # data, cases, panels
    assert all(max(p.shape[:2]) == overlays.SIDE for p in shown)
    for entry in (mixed.entries[0], mixed.entries[2]):
        gallery = overlays.galleries(views([entry]))[0]
        with (entry.assess.cases / "cases.csv").open(newline="") as handle:
            rows = [r for r in csv.DictReader(handle) if r["dice"]]
        dice = {
            i: np.mean([float(r["dice"]) for r in rows if r["index"] == i])
            for i in {r["index"] for r in rows}
        }
        order = sorted(dice, key=lambda i: (dice[i], int(i)))
        assert [str(c.index) for c in gallery.cases] == [order[0], order[19], order[-1]]
        assert gallery.cases[0].panels[2].caption == f"Dice {dice[order[0]]:.3f}"
    assert "case &lt;" in mixed.html  # names come from the data

    def magenta(picture: np.ndarray) -> int:
        return int(
            ((picture[..., 0] > 200) & (picture[..., 1] < 80) & (picture[..., 2] > 150)).sum()
        )

    for strip in range(6):
        image, truth, reference, compressed = shown[4 * strip : 4 * strip + 4]
        assert magenta(compressed) > 100
        assert magenta(image) == magenta(truth) == magenta(reference) == 0


def test_a_volume_is_cut_where_its_smallest_class_is_largest(mixed: Mixed) -> None:
    gallery = overlays.galleries(views(mixed.entries[2:4]))[0]
    for case in gallery.cases:
        mask = masks(VOLUMES)[case.index]
        label = 2 if (mask == 2).any() else 1
        areas = (mask == label).sum(axis=(1, 2))
        at = int(re.findall(r"axial slice (\d+) of", case.where)[0]) - 1
        assert areas[at] == areas.max()
        assert case.where.endswith(f"of {len(mask)}")


def test_fewer_cases_than_ranks() -> None:
    assert overlays.chosen({4: 0.5}) == {4: "worst, median, best"}
    assert overlays.chosen({4: 0.5, 2: 0.7}) == {4: "worst, median", 2: "best"}
    assert overlays.chosen({}) == {}


def test_whole_volumes(mixed: Mixed) -> None:
    whole = volumes.of_members(views(mixed.entries[2:4]))[0]
    assert whole.size == (8, 16, 16)
    assert len(whole.shapes) == 40
    n = whole.windows_of((14, 20, 20))
    assert n == 3 * 2 * 2  # steps of 4, 8, 8: 0 4 6; 0 4; 0 4
    p50 = whole.setting.latency_ms.p50.estimate
    assert p50 is not None
    assert whole.seconds((14, 20, 20)).estimate == pytest.approx(n * p50 / 1e3)
    arrays = 4 * (1 + 1 + 1 + 3) * 14 * 20 * 20 / 1e6
    assert whole.memory_mb((14, 20, 20)) == pytest.approx(44.9 + arrays)
    assert volumes.of_members(views(mixed.entries[:2])) == []
    assert "Whole volumes" in mixed.html
    assert (mixed.out / "figures" / "volumes.svg").read_text().startswith("<?xml")


def test_windows_are_those_that_the_assessment_runs() -> None:
    from edgeward.core.windows import sliding

    for shape, size, overlap in (((9, 20, 31), (8, 16, 16), 0.5), ((5, 8, 8), (8, 8, 8), 0.25),
                                 ((8, 8, 8), (8, 8, 8), 0.5), ((40, 8, 9), (8, 8, 8), 0.0)):  # fmt: skip
        ran: list[int] = []

        def forward(x: np.ndarray, ran: list[int] = ran) -> np.ndarray:
            ran.append(len(x))
            return x

        sliding(forward, np.zeros((1, *shape), np.float32), size, overlap, 1)
        assert volumes.windows(shape, size, overlap) == sum(ran)


def test_the_same_input_gives_the_same_bytes(mixed: Mixed) -> None:
    again = overlays.galleries(views(mixed.entries[:2]))[0]
    assert all(p.uri in mixed.html for case in again.cases for p in case.panels)


def spoil_cases(paths: ResultPaths) -> None:
    (paths.assess.cases / "cases.csv").write_text("index,class,dice\n0,lesion,good\n")


def spoil_predictions(paths: ResultPaths) -> None:
    np.savez(
        paths.assess.cases / "predictions.npz",
        index=[0],
        shape=[[24, 32]],
        labels=np.zeros(768, np.uint8),
    )


def spoil_shapes(paths: ResultPaths) -> None:
    with np.load(paths.assess.cases / "predictions.npz") as content:
        found = dict(content)
    np.savez(paths.assess.cases / "predictions.npz", **found | {"shape": found["shape"][:, ::-1]})


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (spoil_cases, ("cases.csv", "'good'")),
        (spoil_predictions, ("predictions.npz", 17, 14, 9)),
        (spoil_shapes, ("case 17", "(24, 32)", "(32, 24)")),
    ],
)
def test_bad_files_are_one_clear_error(
    tmp_path: Path, spoil: Any, parts: tuple[object, ...]
) -> None:
    entry = candidates(tmp_path, PLANE, family(PLANE, "u_lite", 1.0))[0]
    spoil(entry)
    with pytest.raises(UserError, match=naming(*parts)):
        overlays.galleries(views([entry]))


def test_a_safety_file_of_the_other_task_is_refused(tmp_path: Path) -> None:
    entry = candidates(tmp_path, PLANE, family(PLANE, "u_lite", 1.0))[0]
    card = read_json(entry.prepare.card)
    write_json(entry.prepare.card, card | {"task": "classification"})
    with pytest.raises(
        UserError, match=naming("safety.json", "'task'", "segmentation", "multiclass")
    ):
        load(entry)
    write_json(entry.prepare.card, card | {"task": "detection"})
    with pytest.raises(
        UserError, match=naming("'detection'", "multiclass", "segmentation", "card.json")
    ):
        load(entry)


LIBRARY = Path(edgeward.__file__).parent


def test_a_task_may_lack_a_part() -> None:
    assert plugins.load_optional("edgeward.tasks", "multiclass", "nothing") is None


def test_the_rule_watches_what_tasks_add_to_the_page() -> None:
    script = LIBRARY.parents[1] / "workflow" / "scripts" / "report.py"
    watched = {str(p.relative_to(LIBRARY)) for p in Closure(LIBRARY).of(script)}
    assert {
        "tasks/segmentation/report.py",
        "tasks/segmentation/templates/cases.html.j2",
        "reporting/templates/page.html.j2",
    } <= watched
    assert not any("train" in Path(name).stem for name in watched if name.startswith("tasks"))


def test_nothing_in_the_room_asks_which_task_it_is() -> None:
    names = ("multiclass", "classification", "segment", "dice", "recall", "small_lesion")
    files = [p for p in (LIBRARY / "reporting").rglob("*") if p.suffix in (".py", ".j2")]
    assert files
    asked = [
        (p.name, n)
        for p in files
        for n in names
        if n in re.sub("indices|[Pp]recision-recall", "", p.read_text())
    ]
    assert asked == []
