"""model.pt: round trip, bytes, and what it refuses."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from refusals import naming
from small_data import meta

from edgeward.core.errors import UserError
from edgeward.models.checkpoint import load_checkpoint, save_checkpoint
from edgeward.models.config import ModelConfig
from edgeward.models.deploy import Deployable
from edgeward.models.factory import build

CONFIG = ModelConfig(
    name="dscnn",
    builder="edgeward",
    architecture="dscnn",
    dense=False,
    family="cnn",
    drop_rate=0.1,
    branch_gain=1.0,
    options={"width": 16, "blocks": 2},
)
META = meta(
    model=CONFIG.model_dump(mode="json"),
    mean=[0.5, 0.4, 0.3],
    classes=["a", "b", "c"],
    logit_shift=[0.0, -0.5, -1.5],
)


@pytest.fixture
def net() -> Deployable:
    torch.manual_seed(0)
    inner = build(CONFIG, num_classes=3, in_chans=3, image_size=(32, 32))
    return Deployable(inner, META.mean, META.std)


def test_round_trip_keeps_outputs_and_meta(net: Deployable, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model.pt", net, META)
    again, found = load_checkpoint(tmp_path / "model.pt")
    image = torch.rand(4, 3, 32, 32) * 255
    assert torch.equal(net.eval()(image), again(image))
    assert found == META
    assert not again.training


def test_same_weights_same_bytes(net: Deployable, tmp_path: Path) -> None:
    for name in ("a.pt", "b.pt"):
        save_checkpoint(tmp_path / name, net, META)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


def test_weights_that_are_not_finite_are_not_written(net: Deployable, tmp_path: Path) -> None:
    net.net[0][0].weight.data[0] = float("nan")
    with pytest.raises(UserError, match=naming("'dscnn'", "net.0.0.weight", "train.lr")):
        save_checkpoint(tmp_path / "model.pt", net, META)
    assert list(tmp_path.iterdir()) == []


def test_older_files_are_read(net: Deployable, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    model = CONFIG.model_dump(mode="json", exclude={"dense", "family"})
    older = META.content() | {
        "task": "classification",
        "model": model | {"task": "classification", "stream": "cnn"},
    }
    torch.save({"format": 1, "state_dict": net.state_dict(), "meta": older}, path)
    assert load_checkpoint(path)[1] == META
    del older["classes"]
    torch.save({"format": 1, "state_dict": net.state_dict(), "meta": older}, path)
    with pytest.raises(UserError, match=naming("model.pt", "meta.classes")):
        load_checkpoint(path)


class Exploit:
    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return (print, ("executed",))


def test_code_in_a_checkpoint_is_not_executed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.pt"
    torch.save({"format": 1, "state_dict": {}, "meta": Exploit()}, path)
    with pytest.raises(UserError, match=naming("model.pt", "UnpicklingError")):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(Exploit()))
    with pytest.raises(UserError, match=naming("model.pt", "UnpicklingError")):
        load_checkpoint(path)
    assert "executed" not in capsys.readouterr().out


def test_other_files_are_refused(net: Deployable, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with pytest.raises(UserError, match=naming("model.pt", "stage")):
        load_checkpoint(path)
    save_checkpoint(path, net, META)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match=naming("model.pt", "RuntimeError")):
        load_checkpoint(path)
    torch.save({"format": 99}, path)
    with pytest.raises(UserError, match=naming("model.pt", "format 1")):
        load_checkpoint(path)
    wider = META.content() | {"n_labels": 5}
    torch.save({"format": 1, "state_dict": net.state_dict(), "meta": wider}, path)
    with pytest.raises(UserError, match=naming("model.pt", "'dscnn'", "weights")):
        load_checkpoint(path)
