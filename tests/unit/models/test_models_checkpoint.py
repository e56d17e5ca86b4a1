"""model.pt: round trip, bytes, and what it refuses."""

from __future__ import annotations

import pickle

import pytest
import torch

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
META = {
    "model": CONFIG.model_dump(),
    "num_classes": 3,
    "task": "multiclass",
    "spatial_dims": 2,
    "n_labels": 3,
    "patches": None,
    "in_chans": 3,
    "image_size": [32, 32],
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.2, 0.2],
    "classes": ["a", "b", "c"],
    "logit_shift": [0.0, -0.5, -1.5],
    "data": "small",
    "seed": 0,
}


@pytest.fixture
def net() -> Deployable:
    torch.manual_seed(0)
    inner = build(CONFIG, num_classes=3, in_chans=3, image_size=(32, 32))
    return Deployable(inner, META["mean"], META["std"])


def test_round_trip_keeps_outputs_and_meta(net, tmp_path):
    save_checkpoint(tmp_path / "model.pt", net, META)
    again, meta = load_checkpoint(tmp_path / "model.pt")
    image = torch.rand(4, 3, 32, 32) * 255
    assert torch.equal(net.eval()(image), again(image))
    assert meta == META
    assert not again.training


def test_same_weights_same_bytes(net, tmp_path):
    for name in ("a.pt", "b.pt"):
        save_checkpoint(tmp_path / name, net, META)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


def test_weights_that_are_not_finite_are_not_written(net, tmp_path):
    net.net[0][0].weight.data[0] = float("nan")
    with pytest.raises(UserError, match="not finite"):
        save_checkpoint(tmp_path / "model.pt", net, META)
    assert list(tmp_path.iterdir()) == []


def test_meta_outside_the_contract_is_refused(net, tmp_path):
    with pytest.raises(ValueError, match="extra"):
        save_checkpoint(tmp_path / "model.pt", net, META | {"extra": 1})


class Exploit:
    def __reduce__(self):
        return (print, ("executed",))


def test_code_in_a_checkpoint_is_not_executed(tmp_path, capsys):
    path = tmp_path / "model.pt"
    torch.save({"format": 1, "state_dict": {}, "meta": Exploit()}, path)
    with pytest.raises(UserError, match="not a readable checkpoint"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(Exploit()))
    with pytest.raises(UserError, match="not a readable checkpoint"):
        load_checkpoint(path)
    assert "executed" not in capsys.readouterr().out


def test_other_files_are_refused(net, tmp_path):
    path = tmp_path / "model.pt"
    with pytest.raises(UserError, match="does not exist"):
        load_checkpoint(path)
    save_checkpoint(path, net, META)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match="not a readable checkpoint"):
        load_checkpoint(path)
    torch.save({"format": 99}, path)
    with pytest.raises(UserError, match="format 1"):
        load_checkpoint(path)
    meta = META | {"n_labels": 5}
    torch.save({"format": 1, "state_dict": net.state_dict(), "meta": meta}, path)
    with pytest.raises(UserError, match="other weights"):
        load_checkpoint(path)
