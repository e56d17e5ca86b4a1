"""The train stage as a whole: outputs, learning, and a real kill -9 in the middle."""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from refusals import naming
from shipped import all_of, shipped
from small_data import card

from edgeward.core.errors import UserError
from edgeward.data.store import Prepared, open_prepared
from edgeward.models.checkpoint import load_checkpoint
from edgeward.models.config import WEIGHTS_ROOT, ModelConfig
from edgeward.tasks.multiclass.train import validation_metrics
from edgeward.training.config import TrainConfig
from edgeward.training.history import Pace
from edgeward.training.stage import run

MODEL = {
    "name": "tiny",
    "builder": "edgeward",
    "architecture": "dscnn",
    "dense": False,
    "family": "cnn",
    "drop_rate": 0.2,
    "branch_gain": 1.0,  # so that the resume must restore the dropout's random numbers
    "options": {"width": 16, "blocks": 2},
}


def settings(**changes: Any) -> dict[str, Any]:
    base = shipped("train", "default")
    small = {"epochs": 4, "batch_size": 16, "precision": "fp32", "accelerator": "cpu"}
    return {**base, **small, "lr": 0.01, "ema_decay": 0.8, **changes}


def train(data: Prepared, root: Path, live: Any = None, **changes: Any) -> dict[str, float]:
    work = root / "work"
    work.mkdir(parents=True, exist_ok=True)
    return run(
        ModelConfig(**MODEL),
        TrainConfig(**settings(**changes)),
        seed=3,
        prepared=data.root,
        out=root / "out",
        work=work,
        threads=1,
        live=live,
    )


Reference = tuple[Path, dict[str, float], list[Any]]
"""Where a run lies, its metrics, and what it told while it ran."""


@pytest.fixture(scope="module")
def reference(small_prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    root = tmp_path_factory.mktemp("reference")
    calls: list[Any] = []
    metrics = train(small_prepared, root, lambda *call: calls.append(call))
    return root, metrics, calls


def test_stage_learns_and_writes_what_it_says(
    reference: Reference, small_prepared: Prepared
) -> None:
    root, metrics, calls = reference
    net, meta = load_checkpoint(root / "out" / "model.pt")
    val = small_prepared.indices("val")
    images = torch.from_numpy(small_prepared.images[val]).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        logits = net(images).numpy()
    shift = np.array(meta.logit_shift)
    again = validation_metrics(logits, small_prepared.labels[val], shift, rare=[2])
    for name, value in again.items():
        assert metrics[name] == pytest.approx(value, abs=1e-4)
    assert metrics["val_auc"] > 0.9
    assert metrics["epochs"] == 4
    assert metrics["parameters"] == sum(p.numel() for p in net.parameters())
    prior = np.array(small_prepared.card.train_prior)
    np.testing.assert_allclose(shift, np.log(prior), rtol=1e-6)
    assert meta.classes == small_prepared.classes
    assert (meta.data, meta.seed, meta.image_size) == ("small", 3, [32, 32])
    rows = list(csv.DictReader((root / "out" / "history.csv").open()))
    assert list(rows[0]) == [
        "epoch", "train_loss", "val_loss", "val_auc", "val_balanced_accuracy", "val_rare_recall",
        "lr", "images_per_second", "seconds",
    ]  # fmt: skip
    assert [float(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert [epoch for epoch, _ in calls] == [1, 2, 3, 4]
    assert calls[-1][1]["val_auc"] == pytest.approx(float(rows[-1]["val_auc"]))
    assert max(float(row["val_balanced_accuracy"]) for row in rows) == pytest.approx(
        metrics["val_balanced_accuracy"]
    )


def test_nothing_of_lightning_is_left_behind(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_prepared: Prepared
) -> None:
    root, _, _ = reference
    assert sorted(p.name for p in (root / "out").iterdir()) == ["history.csv", "model.pt"]
    assert [p.name for p in (root / "work").iterdir()] == ["last.ckpt"]  # the caller removes it
    monkeypatch.chdir(tmp_path)
    train(small_prepared, tmp_path / "run", epochs=1)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


CHILD = """
import json, sys, time
from pathlib import Path
from edgeward.models.config import ModelConfig
from edgeward.training.config import TrainConfig
from edgeward.training.stage import run
model, train, prepared, root = json.loads(sys.argv[1])
root = Path(root)
def live(epoch, metrics):
    if epoch == 2:
        (root / "second").touch()
        time.sleep(600)
run(ModelConfig(**model), TrainConfig(**train), seed=3, prepared=Path(prepared), out=root / "out",
    work=root / "work", threads=1, live=live)
"""


def test_killed_and_run_again_ends_with_the_same_bytes(
    reference: Reference, small_prepared: Prepared, tmp_path: Path
) -> None:
    (tmp_path / "work").mkdir()
    arguments = json.dumps([MODEL, settings(), str(small_prepared.root), str(tmp_path)])
    child = subprocess.Popen([sys.executable, "-c", CHILD, arguments])
    try:
        deadline = time.monotonic() + 300
        while not (tmp_path / "second").exists():
            assert child.poll() is None, "the child ended before its second epoch"
            assert time.monotonic() < deadline, "the child did not reach its second epoch"
            time.sleep(0.05)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert not (tmp_path / "out" / "model.pt").exists()
    seen: list[int] = []
    metrics = train(small_prepared, tmp_path, lambda epoch, _: seen.append(epoch))
    assert seen == [3, 4]
    root, expected, _ = reference
    model = (tmp_path / "out" / "model.pt").read_bytes()
    assert model == (root / "out" / "model.pt").read_bytes()
    timing = {"images_per_second", "train_s"}
    assert {k: v for k, v in metrics.items() if k not in timing} == {
        k: v for k, v in expected.items() if k not in timing
    }


def test_killed_before_it_is_counted_a_finished_run_is_not_trained_again(
    reference: Reference, small_prepared: Prepared, tmp_path: Path
) -> None:
    root, expected, _ = reference
    shutil.copytree(root / "work", tmp_path / "work")  # Snakemake has removed what was in `out`
    seen: list[int] = []
    metrics = train(small_prepared, tmp_path, lambda epoch, _: seen.append(epoch))
    assert seen == []
    assert metrics == expected
    assert (tmp_path / "out/model.pt").read_bytes() == (root / "out/model.pt").read_bytes()


def test_killed_after_the_last_epoch_only_writes(
    reference: Reference, small_prepared: Prepared, tmp_path: Path
) -> None:
    def interrupt(epoch: int, metrics: dict[str, float]) -> None:
        if epoch == 4:
            raise MemoryError

    with pytest.raises(MemoryError):
        train(small_prepared, tmp_path, interrupt)
    seen: list[int] = []
    train(small_prepared, tmp_path, lambda epoch, _: seen.append(epoch))
    assert seen == []
    root, _, _ = reference
    model = (tmp_path / "out" / "model.pt").read_bytes()
    assert model == (root / "out" / "model.pt").read_bytes()


def test_early_stop_ends_and_ships_the_best_epoch(small_prepared: Prepared, tmp_path: Path) -> None:
    metrics = train(small_prepared, tmp_path, epochs=30, early_stop_patience=2)
    rows = list(csv.DictReader((tmp_path / "out" / "history.csv").open()))
    scores = [float(row["val_balanced_accuracy"]) for row in rows]
    assert metrics["epochs"] == len(rows) < 30
    assert metrics["epoch"] == int(np.argmax(scores)) + 1 == len(rows) - 2


def test_last_epoch_ships_when_asked(small_prepared: Prepared, tmp_path: Path) -> None:
    metrics = train(small_prepared, tmp_path, select="last", early_stop_patience=100)
    assert metrics["epoch"] == metrics["epochs"] == 4


def test_balanced_sampling_is_undone_by_the_shift_in_the_model(
    small_prepared: Prepared, tmp_path: Path
) -> None:
    loss = {**settings()["loss"], "name": "cross_entropy"}
    train(small_prepared, tmp_path, epochs=1, sampling="class_balanced", loss=loss)
    _, meta = load_checkpoint(tmp_path / "out" / "model.pt")
    np.testing.assert_allclose(meta.logit_shift, np.log(small_prepared.card.train_prior))


def test_no_rare_class_is_no_rare_recall(small_prepared: Prepared, tmp_path: Path) -> None:
    shutil.copytree(small_prepared.root, tmp_path / "data")
    card = small_prepared.card.model_copy(update={"rare_classes": []})
    card.write(tmp_path / "data" / "card.json")
    seen: list[set[str]] = []
    data = open_prepared(tmp_path / "data")
    metrics = train(data, tmp_path, lambda _, m: seen.append(set(m)), epochs=1)
    assert "val_rare_recall" not in seen[0] | set(metrics)
    assert "val_auc" in seen[0] & set(metrics)


def test_divergence_is_one_clear_error(small_prepared: Prepared, tmp_path: Path) -> None:
    wild = {"lr": 1e18, "grad_clip": 1e18, "warmup_fraction": 0.0}
    with pytest.raises(UserError, match=naming("config/train/", "'lr'", "'grad_clip'")):
        train(small_prepared, tmp_path, **wild)
    assert not (tmp_path / "out").exists()


def test_precision_is_measured_once_and_kept(small_prepared: Prepared, tmp_path: Path) -> None:
    train(small_prepared, tmp_path, precision="auto", epochs=1)
    memory = tmp_path / "work" / "precision.json"
    choice = json.loads(memory.read_text())
    assert set(choice["seconds_per_step"]) == {"fp32", "bf16"}
    memory.write_text(json.dumps({"precision": "bf16"}))
    assert train(small_prepared, tmp_path, precision="auto", epochs=1)["bf16"] == 1.0


def test_gpu_that_is_not_there_is_named(small_prepared: Prepared, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UserError, match=naming("train.accelerator", "'cuda'")):
        train(small_prepared, tmp_path, accelerator="cuda")


SHIPPED = [
    name
    for name in all_of("train")
    if not any(other in name for other in ("segmentation", "multilabel", "ordinal"))
]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_config_is_valid_and_runs(
    name: str, small_prepared: Prepared, tmp_path: Path
) -> None:
    values = shipped("train", name)
    metrics = train(small_prepared, tmp_path, **{**values, "epochs": 1, "batch_size": 16})
    assert np.isfinite(metrics["val_loss"])


def test_real_images_are_told_apart(shared_data: Path, tmp_path: Path) -> None:
    """A short run on the real chest X-rays of PneumoniaMNIST: grey, 28 pixels, two classes."""
    source = np.load(shared_data / "medmnist" / "pneumoniamnist.npz", allow_pickle=False)
    data = write_prepared(tmp_path / "data", source)
    metrics = train(data, tmp_path, epochs=2, batch_size=32)
    assert metrics["val_auc"] > 0.9


def write_prepared(root: Path, source: Any) -> Prepared:
    """Write the first images of an official MedMNIST file as prepared data."""
    root.mkdir()
    parts = [(s, min(1500, len(source[f"{s}_labels"]))) for s in ("train", "val", "test")]
    images = np.concatenate([source[f"{s}_images"][:n] for s, n in parts])[..., None]
    labels = np.concatenate([source[f"{s}_labels"][:n, 0] for s, n in parts]).astype(np.int64)
    splits = [s for s, n in parts for _ in range(n)]
    np.save(root / "images.npy", images)
    np.save(root / "labels.npy", labels)
    with (root / "split.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["index", "id", "label", "class", "group", "split"])
        writer.writerows([i, i, labels[i], labels[i], i, splits[i]] for i in range(len(labels)))
    (root / "calibration.csv").write_text("index\n0\n")
    pixels = images[: parts[0][1]] / 255
    card(
        name="pneumoniamnist",
        task="multiclass",
        classes=["normal", "pneumonia"],
        n_labels=2,
        rare_classes=["normal"],
        n_images=len(labels),
        image_shape=list(images.shape[1:]),
        counts={},
        train_prior=[0.25, 0.75],
        channel_mean=[float(pixels.mean())],
        channel_std=[float(pixels.std())],
    ).write(root / "card.json")
    return open_prepared(root)


def test_every_epoch_says_how_far_it_is(
    small_prepared: Prepared,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(Pace, "EVERY_S", 0.0)
    caplog.set_level(logging.INFO)
    train(small_prepared, tmp_path, epochs=2)
    steps = len(small_prepared.indices("train")) // 16
    for epoch in (1, 2):
        lines = [m for m in caplog.messages if m.startswith(f"epoch {epoch}/2, ")]
        expected = [f"{100 * step / steps:.0f} %" for step in range(1, steps)]
        assert [line.split(", ")[1].split(":")[0] for line in lines] == expected


def shared_file(root: Path, data: Prepared, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Train a network, and put its ``model.pt`` below the weights root."""
    train(data, root, epochs=2)
    monkeypatch.setenv(WEIGHTS_ROOT, str(root / "out"))
    return root / "out" / "model.pt"


def test_weights_may_be_taken_as_they_are(
    small_prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shared_file(tmp_path / "theirs", small_prepared, monkeypatch)
    monkeypatch.setitem(MODEL, "weights", {"kind": "file", "path": "model.pt"})
    metrics = train(small_prepared, tmp_path / "mine", epochs=0)
    theirs, mine = load_checkpoint(path), load_checkpoint(tmp_path / "mine/out/model.pt")
    for name, value in theirs[0].state_dict().items():
        assert torch.equal(value, mine[0].state_dict()[name]), name
    assert mine[1].origin is not None
    assert mine[1].origin.drawn == []
    (row,) = csv.DictReader((tmp_path / "mine/out/history.csv").open())
    assert (row["epoch"], row["lr"]) == ("0.0", "0.0")
    old = list(csv.DictReader((tmp_path / "theirs/out/history.csv").open()))
    assert float(row["val_auc"]) == pytest.approx(max(float(r["val_auc"]) for r in old), abs=0.2)
    assert metrics["val_auc"] == pytest.approx(float(row["val_auc"]))
    assert np.isfinite(list(metrics.values())).all()


def test_nothing_random_is_shipped_untrained(
    small_prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=naming("train.epochs", "'tiny'", "weights")):
        train(small_prepared, tmp_path, epochs=0)
    shared_file(tmp_path / "theirs", small_prepared, monkeypatch)
    weights = {"kind": "file", "path": "model.pt", "classes": ["p", "q", "r"]}
    monkeypatch.setitem(MODEL, "weights", weights)
    with pytest.raises(UserError, match=naming("train.epochs", "'tiny'", "classes")):
        train(small_prepared, tmp_path / "mine", epochs=0)
    assert not (tmp_path / "mine/out/model.pt").exists()


def test_fine_tuning_starts_from_the_weights(
    small_prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shared_file(tmp_path / "theirs", small_prepared, monkeypatch)
    monkeypatch.setitem(MODEL, "weights", {"kind": "file", "path": "model.pt"})
    slow = {"epochs": 1, "frozen_epochs": 1, "ema_decay": 0.0}
    train(small_prepared, tmp_path / "mine", **slow)
    theirs, mine = load_checkpoint(path), load_checkpoint(tmp_path / "mine/out/model.pt")
    changed = {
        name
        for name, p in mine[0].named_parameters()
        if not torch.equal(p, theirs[0].get_parameter(name))
    }
    assert [len(theirs[0].get_parameter(name)) for name in sorted(changed)] == [3, 3]  # the head
    assert mine[1].mean == theirs[1].mean
