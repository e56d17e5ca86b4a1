"""`prepare` from end to end on the phantom and on planted faults."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from guides import python
from pydantic import ValidationError
from refusals import naming
from shipped import shipped

from edgeward.core.errors import UserError
from edgeward.core.io import read_json, sha256, write_json
from edgeward.data import stage
from edgeward.data.config import DataConfig
from edgeward.data.listing import Batch, Listing, Request
from edgeward.data.sources import phantom
from edgeward.data.store import SPLITS, Prepared, open_prepared
from edgeward.data.writer import ArrayWriter, publishing


def values(data_set: str, /, **changes: Any) -> dict[str, Any]:
    """The shipped values of a data set, with top-level keys replaced."""
    return shipped("data", data_set) | changes


def listed(n: int = 60, **changes: Any) -> Listing:
    """A listing of n noise images of two classes, two per group, faults as given."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    bad = changes.pop("bad", ())
    masks = changes.pop("masks", False)

    def batches() -> Iterator[Batch]:
        for start in range(0, n, 16):
            rows = np.array([r for r in range(start, min(n, start + 16)) if r not in bad], int)
            yield Batch(
                rows,
                images[rows],
                (images[rows, :, :, 0] > 127).astype(np.uint8) if masks else None,
                tuple((r, "planted fault") for r in range(start, start + 16) if r in bad),
            )

    facts: dict[str, Any] = {
        "classes": ["a", "b"],
        "ids": [f"im{i}" for i in range(n)],
        "labels": (np.arange(n) // 2 % 4 == 0).astype(np.int64),
        "groups": [f"g{i // 2}" for i in range(n)],
        "splits": None,
        "channels": 3,
        "batches": batches,
        "source": "test",
        "licence": "none",
        "citation": "none",
    }
    return Listing(**facts | changes)


Planted = Callable[[Listing], None]


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Planted:
    """Let the phantom's config open a listing of the test's own."""

    def plant(listing: Listing) -> None:
        monkeypatch.setattr(phantom, "open_source", lambda request: listing)

    return plant


def small(**changes: Any) -> DataConfig:
    split = {"kind": "stratified", "train": 0.5, "val": 0.2, "test": 0.3}
    calibration = {"n": 10, "min_per_class": 1}
    return DataConfig(**values("phantom_tiny", split=split, calibration=calibration) | changes)


def test_phantom_is_prepared_as_the_contract_says(tmp_path: Path) -> None:
    cfg = DataConfig(**values("phantom_tiny"))
    metrics = stage.run(cfg, out=tmp_path, data_root=None)
    data = open_prepared(tmp_path)
    assert data.images.shape == (680, 32, 32, 3)
    assert data.images.dtype == np.uint8
    assert data.labels.dtype == np.int64
    masks = np.load(tmp_path / "masks.npy", mmap_mode="r")
    assert masks.shape == (680, 32, 32)
    assert set(np.unique(masks)) == {0, 1}
    card = data.card
    with (tmp_path / "split.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == ["index", "id", "label", "class", "group", "split", "views"]
    assert [int(r["index"]) for r in rows] == list(range(680))
    assert [int(r["label"]) for r in rows] == data.labels.tolist()
    assert all(card.classes[int(r["label"])] == r["class"] for r in rows)
    assert len({r["id"] for r in rows}) == 680
    for split in SPLITS:
        own = data.indices(split)
        assert metrics[f"n_{split}"] == len(own)
        assert card.groups[split] == len(set(data.groups[own]))
        counts = np.bincount(data.labels[own], minlength=7)
        assert list(card.counts[split].values()) == counts.tolist()
    train = data.images[data.indices("train")] / 255
    np.testing.assert_allclose(card.channel_mean, train.mean((0, 1, 2)), atol=1e-9)
    np.testing.assert_allclose(card.channel_std, train.std((0, 1, 2)), atol=1e-9)
    prior = np.bincount(data.labels[data.indices("train")]) / len(train)
    np.testing.assert_allclose(card.train_prior, prior)
    assert card.rare_classes == [c for c, p in zip(card.classes, prior, strict=True) if p < 0.05]
    assert set(data.calibration) <= set(data.indices("train"))
    assert card.hashes == {
        name: sha256(tmp_path / name)
        for name in ("calibration.csv", "images.npy", "labels.npy", "masks.npy", "split.csv")
    }
    assert metrics["leak_shared_groups"] == metrics["leak_identical"] == 0
    assert not list(tmp_path.glob(".*"))


def test_the_same_config_gives_the_same_bytes(tmp_path: Path) -> None:
    cfg = DataConfig(**values("phantom_tiny"))
    for name in "ab":
        stage.run(cfg, out=tmp_path / name, data_root=None)
    assert read_json(tmp_path / "a/card.json") == read_json(tmp_path / "b/card.json")
    stage.run(cfg.model_copy(update={"seed": 21}), out=tmp_path / "b", data_root=None)
    first, second = (read_json(tmp_path / x / "card.json")["hashes"] for x in "ab")
    assert first["images.npy"] != second["images.npy"]


def test_memory_does_not_grow_with_the_images(tmp_path: Path, planted: Planted) -> None:
    def peak(n: int) -> int:
        def batches() -> Iterator[Batch]:
            rng = np.random.default_rng(0)
            for start in range(0, n, 100):
                images = rng.integers(0, 256, (100, 64, 64, 3), dtype=np.uint8)
                yield Batch(np.arange(start, start + 100), images, images[..., 0] >> 7)

        planted(replace(listed(n), batches=batches))
        tracemalloc.start()
        stage.run(small(image_size=64), out=tmp_path / str(n), data_root=None)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (tmp_path / str(n) / "images.npy").stat().st_size > n * 64 * 64 * 3
        return most

    extra = peak(3000) - peak(1000)
    assert extra < 2000 * 1500  # an image and its mask take 16384 bytes


def test_stage_imports_no_torch_nor_anything_slow() -> None:
    code = (
        "import sys, edgeward.data.stage; "
        "slow = {'torch', 'scipy', 'medmnist', 'matplotlib', 'mlflow', 'nibabel', 'pydicom', 'monai'}; "
        "print(sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_config_needs_nothing_but_pydantic() -> None:
    code = (
        "import sys, edgeward.data.config; "
        "print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("imge_size", 64),
        ("image_size", 8),
        ("name", "../up"),
        ("invalid", "ignore"),
        ("split", {"kind": "stratified", "train": 0.5, "val": 0.2, "test": 0.2}),
        ("rare", {"rule": "prevalence", "classes": ["nv"]}),
    ],
)
def test_wrong_values_do_not_validate(key: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=rf"(?m)^{key}\b"):
        DataConfig(**values("phantom_tiny", **{key: value}))


@pytest.mark.parametrize("path", ["/etc", "../secret", "a/../../b", ""])
def test_source_folders_stay_below_the_root(path: str) -> None:
    source = values("folder")["source"] | {"path": path}
    with pytest.raises(ValidationError, match=naming("source.folder.path")):
        DataConfig(**values("folder", source=source))


def test_invalid_images_are_refused_named_and_counted(tmp_path: Path, planted: Planted) -> None:
    bad = set(range(10, 35))
    planted(listed(120, bad=bad))
    with pytest.raises(UserError) as caught:
        stage.run(small(), out=tmp_path / "out", data_root=None)
    message = str(caught.value)
    assert message.startswith("25 images of test cannot be used")
    assert "im29: planted fault" in message
    assert "im30" not in message
    assert "and 5 more" in message
    assert "data.invalid: skip" in message
    [findings] = (tmp_path / "out").iterdir()
    assert findings.read_text().count("planted fault") == 25


def test_invalid_images_can_be_left_out_and_are_counted(tmp_path: Path, planted: Planted) -> None:
    listing = listed(120, bad={3, 64}, invalid=[("lost", "no such file")], masks=True)
    planted(listing)
    metrics = stage.run(small(invalid="skip"), out=tmp_path, data_root=None)
    data = open_prepared(tmp_path)
    assert metrics["n_invalid"] == 3
    assert data.card.invalid is not None
    assert data.card.invalid.n == 3
    assert data.images.shape == (118, 32, 32, 3)
    kept = [i for i in range(120) if i not in (3, 64)]
    undisturbed = listed(120).batches
    assert undisturbed is not None
    whole = np.concatenate([b.images for b in undisturbed()])
    np.testing.assert_array_equal(data.images, whole[kept])
    assert listing.labels is not None
    np.testing.assert_array_equal(data.labels, listing.labels[kept])
    assert len(np.load(tmp_path / "masks.npy")) == 118


def test_nothing_usable_is_one_clear_error(tmp_path: Path, planted: Planted) -> None:
    planted(listed(20, bad=set(range(20))))
    with pytest.raises(UserError, match=naming("test", "im0", "im13")):
        stage.run(small(invalid="skip"), out=tmp_path, data_root=None)


def test_masks_of_an_earlier_run_do_not_survive(tmp_path: Path, planted: Planted) -> None:
    planted(listed(masks=True))
    stage.run(small(), out=tmp_path, data_root=None)
    assert (tmp_path / "masks.npy").exists()
    planted(listed(masks=False))
    stage.run(small(), out=tmp_path, data_root=None)
    assert not (tmp_path / "masks.npy").exists()
    assert "masks.npy" not in open_prepared(tmp_path).card.hashes


def test_a_failed_run_leaves_the_earlier_set_whole(tmp_path: Path, planted: Planted) -> None:
    planted(listed())
    stage.run(small(), out=tmp_path, data_root=None)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    planted(listed(bad={50}))
    with pytest.raises(UserError):
        stage.run(small(), out=tmp_path, data_root=None)
    findings = before.pop("findings.csv")
    after = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert b"im50" in after.pop("findings.csv")
    assert b"im50" not in findings
    assert after == before


def test_what_a_killed_run_left_is_cleared(tmp_path: Path, planted: Planted) -> None:
    (tmp_path / ".partial").mkdir()
    (tmp_path / ".partial" / "masks.npy").write_bytes(b"half")
    planted(listed())
    stage.run(small(), out=tmp_path, data_root=None)
    assert not (tmp_path / ".partial").exists()
    assert not (tmp_path / "masks.npy").exists()


def test_a_death_while_publishing_leaves_a_set_that_does_not_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "card.json").write_text("old")
    move = Path.replace

    def dies(self: Path, target: Path) -> Path:
        if self.name == "labels.npy":
            raise KeyboardInterrupt
        return move(self, target)

    monkeypatch.setattr(Path, "replace", dies)

    def publish() -> None:
        with publishing(tmp_path) as folder:
            for name in ("images.npy", "labels.npy", "card.json"):
                (folder / name).write_text("new")

    with pytest.raises(KeyboardInterrupt):
        publish()
    with pytest.raises(UserError, match=naming(tmp_path, "labels.npy", "card.json")):
        open_prepared(tmp_path)


def test_given_split_of_a_source_without_sides(tmp_path: Path, planted: Planted) -> None:
    planted(listed())
    with pytest.raises(UserError, match=naming("data.split.kind", "'given'", "'stratified'")):
        stage.run(small(split={"kind": "given"}), out=tmp_path, data_root=None)


def test_a_side_without_a_class_is_refused(tmp_path: Path, planted: Planted) -> None:
    listing = listed()
    sides = np.where(np.arange(60) < 30, "train", np.where(np.arange(60) < 45, "val", "test"))
    sides[(sides == "val") & (listing.labels == 1)] = "train"
    planted(listed(splits=sides))
    with pytest.raises(UserError, match=naming("'val'", "b", "data.split.kind")):
        stage.run(small(split={"kind": "given"}), out=tmp_path, data_root=None)


def test_a_group_on_two_given_sides_is_refused(tmp_path: Path, planted: Planted) -> None:
    planted(listed(splits=np.resize(["train", "val", "test"], 60)))
    with pytest.raises(UserError, match=naming("shared_groups", "data.audit", 30)):
        stage.run(small(split={"kind": "given"}), out=tmp_path, data_root=None)


def test_named_rare_classes(tmp_path: Path, planted: Planted) -> None:
    planted(listed())
    stage.run(small(rare={"rule": "named", "classes": ["b"]}), out=tmp_path, data_root=None)
    assert open_prepared(tmp_path).card.rare_classes == ["b"]
    with pytest.raises(UserError, match=naming("'bb'", "'b'", "data.rare.classes")):
        stage.run(small(rare={"rule": "named", "classes": ["bb"]}), out=tmp_path, data_root=None)


def test_a_reader_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_reader.py").write_text(
        "from test_data_stage import listed\n"
        "def open_source(request):\n"
        "    assert request.image_size == 32\n"
        "    return listed(request.source['n'])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(Path(__file__).parent)
    source = {"kind": "python", "module": "my_reader", "options": {"n": 80}}
    metrics = stage.run(small(source=source), out=tmp_path / "out", data_root=None)
    assert sum(metrics[f"n_{s}"] for s in SPLITS) == 80
    with pytest.raises(UserError, match=naming("data.source.module", "'no_such_reader'")):
        stage.open_listing(small(source=source | {"module": "no_such_reader"}), None)


def test_the_reader_of_the_guide_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Table(list[int]):
        def __init__(self) -> None:
            super().__init__(range(60))
            self.ids = [f"im{i}" for i in self]
            self.labels = np.arange(60) % 2
            self.patients = [f"p{i // 2}" for i in self]

    def check_and_read(root: Path | None, source: Any) -> Table:
        asked.append((root, source))
        return Table()

    reader = ModuleType("guide_reader")
    vars(reader).update(np=np, Batch=Batch, Listing=Listing, check_and_read=check_and_read)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 1), dtype=np.uint8)
    vars(reader)["read"] = lambda table, rows: pixels[rows]
    exec(python("def open_source("), vars(reader))
    monkeypatch.setitem(sys.modules, "guide_reader", reader)
    source = {"kind": "python", "module": "guide_reader", "options": {"folder": "scans"}}
    named = {"rule": "named", "classes": ["ill"]}
    stage.run(small(source=source, rare=named), out=tmp_path / "out", data_root=tmp_path)
    assert asked == [(tmp_path, {"folder": "scans"})]
    assert open_prepared(tmp_path / "out").card.classes == ["healthy", "ill"]


def test_array_writer_equals_numpy_at_any_length(tmp_path: Path) -> None:
    for n in (0, 1, 9, 10, 1234):
        rows = np.random.default_rng(n).integers(0, 256, (n, 3, 2), dtype=np.uint8)
        with ArrayWriter(tmp_path / "a.npy", (3, 2)) as writer:
            for start in range(0, n, 100):
                writer.append(rows[start : start + 100])
        np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), rows)
        np.save(tmp_path / "b.npy", rows)
        assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_older_cards_open(small_prepared: Prepared, tmp_path: Path) -> None:
    for path in small_prepared.root.iterdir():
        shutil.copy(path, tmp_path)
    content = small_prepared.card.content()
    del content["schema"]
    write_json(tmp_path / "card.json", content | {"task": "classification", "doi": "10.1/x"})
    found = open_prepared(tmp_path).card
    assert found.notes == {"doi": "10.1/x"}
    assert found.model_copy(update={"notes": {}}) == small_prepared.card
    write_json(tmp_path / "card.json", content | {"classes": 3})
    with pytest.raises(UserError, match=naming("card.json", "'classes'")):
        open_prepared(tmp_path)


def test_request_carries_what_a_source_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Request] = []
    cfg = small()

    def remembered(request: Request) -> Listing:
        seen.append(request)
        return listed()

    monkeypatch.setattr(phantom, "open_source", remembered)
    stage.open_listing(cfg, Path("somewhere"))
    assert seen == [Request(cfg.source, 32, cfg.seed, Path("somewhere"))]


def test_files_that_are_judged_need_no_training_images(tmp_path: Path, planted: Planted) -> None:
    planted(listed())
    metrics = stage.run(small(split={"kind": "held_out", "val": 0.3}), out=tmp_path, data_root=None)
    data = open_prepared(tmp_path)
    train, val, test = (len(data.indices(s)) for s in SPLITS)
    assert (train, val + test) == (0, 60)
    assert abs(val - 18) <= 4  # a group of each class
    assert "n_train" not in metrics
    assert not len(data.calibration)
    share = np.bincount(data.labels) / 60
    np.testing.assert_allclose(data.card.train_prior, share)
    assert not set(data.groups[data.indices("val")]) & set(data.groups[data.indices("test")])


def test_validation_is_dealt_from_train_where_the_source_has_none(
    tmp_path: Path, planted: Planted
) -> None:
    sides = np.where(np.arange(60) < 40, "train", "test")
    planted(listed(splits=sides))
    with pytest.raises(UserError, match=naming("'val'", "data.split", "val: 0.2")):
        stage.run(small(split={"kind": "given"}), out=tmp_path, data_root=None)
    stage.run(small(split={"kind": "given", "val": 0.25}), out=tmp_path, data_root=None)
    data = open_prepared(tmp_path)
    assert [len(data.indices(s)) for s in SPLITS] == [30, 10, 20]
    assert (data.splits[40:] == "test").all()
    assert not set(data.groups[data.indices("val")]) & set(data.groups[data.indices("train")])


def test_copies_become_one_group_on_request(tmp_path: Path, planted: Planted) -> None:
    listing = listed()
    assert listing.batches is not None
    [first, *_] = listing.batches()

    def copied() -> Iterator[Batch]:
        assert listing.batches is not None
        for batch in listing.batches():
            images = batch.images.copy()
            images[batch.rows % 12 == 0] = first.images[0]  # im0, im12, im24, ..
            yield replace(batch, images=images)

    planted(replace(listing, batches=copied, groups=listing.ids))
    with pytest.raises(UserError, match=naming("identical", "data.audit.identical: group")):
        stage.run(small(), out=tmp_path, data_root=None)
    audit = {"identical": "group", "contradictory": "warn"}  # classes of the listing are by row
    stage.run(small(audit=audit), out=tmp_path, data_root=None)
    data = open_prepared(tmp_path)
    assert len(set(data.groups[::12])) == 1
    assert len(set(data.groups)) == 56
    assert data.card.leakage.identical == 0


def test_copies_on_given_sides_stay_refused(tmp_path: Path, planted: Planted) -> None:
    listing = listed(
        splits=np.repeat(["train", "val", "test"], 20), groups=[f"im{i}" for i in range(60)]
    )

    def copied() -> Iterator[Batch]:
        assert listing.batches is not None
        for batch in listing.batches():
            yield replace(batch, images=np.broadcast_to(batch.images[:1], batch.images.shape))

    planted(replace(listing, batches=copied))
    with pytest.raises(UserError, match=naming("identical", "data.audit")):
        stage.run(
            small(split={"kind": "given"}, audit={"identical": "group"}),
            out=tmp_path,
            data_root=None,
        )
