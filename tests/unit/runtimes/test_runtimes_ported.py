"""A program in the files of other engines: the same logits, in float and in INT8, and what runs there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from export_programs import MEAN, STD, Residual, calibration_images, recipe, to_int8
from profiling_models import host_quick
from torch import nn

from edgeward.core.errors import UserError
from edgeward.core.io import read_json, write_json
from edgeward.data.store import Prepared, to_input
from edgeward.export import port, stage
from edgeward.export.config import export_config, port_config
from edgeward.models.deploy import Deployable
from edgeward.models.program import export_program, load_program, save_program
from edgeward.models.ssm.gated import gated_scan, sequential
from edgeward.models.ssm.selective import selective_scan
from edgeward.profiling import stage as profiling
from edgeward.records.parity import Parity
from edgeward.records.port import Port, taken
from edgeward.runtimes.recurrence import Gated
from edgeward.runtimes.session import open_session

ENGINES = {"executorch": "executorch", "litert": "ai_edge_litert"}
"""Runtime -> module without which it is not there."""
PRECISIONS = ("fp32", "int8")


class Mixed(Residual):
    """Convolutions, GELU by tanh, a recurrence over 256 tokens and a linear layer."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.maps, self.decay = nn.Linear(16, 8), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = nn.functional.gelu(x + self.deep(x), approximate="tanh")
        tokens = x.flatten(2).transpose(1, 2)
        q, k = self.maps(tokens).chunk(2, -1)
        g = -nn.functional.softplus(self.decay(tokens))
        return self.head((tokens + gated_scan(q, k, tokens, g, 4, 1)).mean(1))


class Below(nn.Module):
    """The softplus of a layer whose results lie below 0."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1)
        nn.init.constant_(self.first.bias, -8.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps = nn.functional.softplus(self.first(x))
        return (self.last(1e3 * steps)).mean((2, 3))


class Selective(nn.Module):
    """The recurrence that has no form in matrix products."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u = x.flatten(2).permute(2, 0, 1)[:, None]
        maps = u[..., :2]
        rates = -torch.ones(1, 2, 3)
        return selective_scan(u, torch.sigmoid(u), rates, maps, maps).mean(0)[0]


@pytest.fixture(scope="module", params=ENGINES)
def runtime(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(ENGINES[request.param], reason=f"{request.param} is an extra")
    if request.param == "litert":
        from edgeward.runtimes.litert.export import converter

        try:
            converter()
        except UserError as error:
            pytest.skip(str(error))
    return str(request.param)


@pytest.fixture(scope="module")
def programs(small_prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with model.pt2, recipe.json and model.onnx."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = small_prepared
    module = Deployable(Mixed(len(data.classes)), MEAN, STD)
    index = data.indices("train")[:64]
    images, labels = (
        torch.from_numpy(to_input(data.images[index])),
        torch.from_numpy(data.labels[index]),
    )
    optimiser = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(20):
        optimiser.zero_grad()
        nn.functional.cross_entropy(module(images), labels).backward()
        optimiser.step()
    module.eval()
    made = {
        "fp32": export_program(module, images[:2]),
        "int8": to_int8(module, calibration_images(data)),
    }
    found = {}
    for precision, program in made.items():
        folder = found[precision] = tmp_path_factory.mktemp(precision)
        save_program(folder / "model.pt2", program)
        write_json(folder / "recipe.json", recipe(data, precision))
        stage.run(
            export_config({}),
            program=folder / "model.pt2",
            recipe=folder / "recipe.json",
            prepared=data.root,
            out=folder,
            threads=1,
        )
    return found


def test_a_missing_converter_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ai_edge_litert", reason="litert is an extra")
    from edgeward.runtimes.litert.export import converter

    monkeypatch.setenv("EDGEWARD_LITERT", "nowhere/bin/python")
    with pytest.raises(UserError, match="make litert"):
        converter()


def test_a_softmax_between_convolutions_runs_over_its_own_axis(tmp_path: Path) -> None:
    pytest.importorskip("executorch", reason="executorch is an extra")
    from edgeward.runtimes.executorch import export
    from edgeward.runtimes.executorch.config import Port as Keys

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Softmax(-1), nn.Conv2d(4, 4, 1)).eval()
    images = 2 * torch.randn(2, 3, 6, 5)
    path = tmp_path / "model.pte"
    export.write(export_program(net, images), Keys(runtime="executorch"), {}, path)
    found = open_session(path, 1, runtime="executorch").run(images.numpy())
    assert abs(found - net(images).detach().numpy()).max() < 1e-6


def test_a_batch_norm_by_itself_is_counted_as_the_convolution_that_it_becomes(
    tmp_path: Path,
) -> None:
    pytest.importorskip("executorch", reason="executorch is an extra")
    from edgeward.profiling.explain.kernels import kernel_macs
    from edgeward.runtimes.executorch import export
    from edgeward.runtimes.executorch.agent import Engine
    from edgeward.runtimes.executorch.config import Port as Keys
    from edgeward.runtimes.executorch.kernels import NAMES

    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GELU(), nn.BatchNorm2d(4)).eval()
    path = tmp_path / "model.pte"
    export.write(export_program(net, torch.zeros(2, 3, 6, 5)), Keys(runtime="executorch"), {}, path)
    feed = {"image": torch.zeros(1, 3, 6, 5).numpy()}
    _, kernels = Engine({}).kernels(str(path), 1, 1, lambda _: feed, 2)
    macs = [kernel_macs(k["operator"], k["inputs"], k["outputs"], NAMES) for k in kernels]
    assert sum(n for n in macs if n is not None) == 30 * (4 * 3 + 4)
    assert None not in macs


def test_a_softplus_of_negative_values_is_not_cut_to_their_range(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="litert is an extra")
    from edgeward.runtimes.litert import export
    from edgeward.runtimes.litert.config import Port as Keys

    try:
        export.converter()
    except UserError as error:
        pytest.skip(str(error))
    torch.manual_seed(0)
    module = Deployable(Below(), MEAN, STD).eval()
    images = 255 * torch.rand(8, 3, 6, 5)
    program = to_int8(module, images)
    path = tmp_path / "model.tflite"
    export.write(program, Keys(runtime="litert"), {"precision": "int8"}, path)
    found = open_session(path, 1, runtime="litert").run(images.numpy())
    exact = program.module(check_guards=False)(images).numpy()
    assert abs(found - exact).mean() < 0.1 * exact.std()


def ported(runtime: str, source: Path, data: Prepared, out: Path) -> dict[str, float]:
    return port.run(
        port_config({"runtime": runtime}),
        program=source / "model.pt2",
        recipe=source / "recipe.json",
        prepared=data.root,
        reference=source / "model.onnx",
        record=out / "port.json",
        files=out / "file",
        threads=1,
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_file_computes_what_the_program_computes_and_is_profiled(
    runtime: str,
    precision: str,
    programs: dict[str, Path],
    small_prepared: Prepared,
    tmp_path: Path,
) -> None:
    source = programs[precision]
    assert ported(runtime, source, small_prepared, tmp_path)["refused"] == 0
    parity = Parity.read(tmp_path / "file" / "parity.json")
    assert parity.passed
    assert parity.onnx_vs_torch is not None
    if precision == "fp32":
        assert parity.onnx_vs_torch.max_abs < 1e-5 * max(1.0, parity.spread)
    file, refused = taken([tmp_path / "port.json", tmp_path / "file"], source / "model.onnx")
    assert refused is None
    cfg = host_quick(
        engine={"name": runtime},
        min_duration_s=0.01,
        min_count=2,
        max_duration_s=0.5,
        deadline_s=500,
    )
    profiling.run(cfg, model=file, shipped=source / "model.onnx", out=tmp_path / "here.json")
    profile = read_json(tmp_path / "here.json")
    assert profile["engine"]["name"] == runtime
    assert profile["settings"][0]["parity"]["passed"]
    shipped = read_json(file.with_name("graph.json"))
    assert profile["model"]["macs"] == shipped["macs"]
    check_explained(profile, precision)


def check_explained(profile: dict[str, Any], precision: str) -> None:
    """The layers by hand: a stem of 3 to 16, a depthwise and a pointwise one, maps and decays of 256 tokens, a head."""
    explained = profile["explanation"]
    side = 16 * 16
    stem, inner = side * 16 * 27, side * 16 * (9 + 16)
    assert explained["macs"] >= stem + inner + side * 16 * 12
    assert explained["macs_unknown"] == []  # no product runs outside XNNPACK
    assert 0 <= explained["outside_delegates"] < 1
    share = explained["int8_mac_share"]
    if precision == "fp32":
        assert share == 0
    else:
        assert 0.9 * inner <= share * profile["model"]["macs"] <= stem + inner


def test_what_an_engine_cannot_take_is_a_finding(
    runtime: str, programs: dict[str, Path], small_prepared: Prepared, tmp_path: Path
) -> None:
    folder = tmp_path / "program"
    folder.mkdir()
    program = export_program(Deployable(Selective(), MEAN, STD).eval(), torch.zeros(2, 3, 32, 32))
    save_program(folder / "model.pt2", program)
    write_json(folder / "recipe.json", recipe(small_prepared, "fp32"))
    (folder / "model.onnx").symlink_to(programs["fp32"] / "model.onnx")
    assert ported(runtime, folder, small_prepared, tmp_path)["refused"] == 1
    assert "selective_scan" in str(Port.read(tmp_path / "port.json").refused)
    assert not list((tmp_path / "file").glob("model*"))
    shipped = folder / "model.onnx"
    file, refused = taken([tmp_path / "port.json", tmp_path / "file"], shipped)
    cfg = host_quick(engine={"name": runtime})
    profiling.run(cfg, model=file, shipped=shipped, refused=refused, out=tmp_path / "here.json")
    profile = read_json(tmp_path / "here.json")
    assert profile["refused"] == refused
    assert profile["settings"] == []


@pytest.mark.parametrize(
    ("length", "heads", "groups"), [(256, 6, 2), (100, 4, 4), (16, 2, 1), (2200, 2, 1)]
)
def test_the_recurrence_in_products_is_as_exact_as_float32(
    length: int, heads: int, groups: int
) -> None:
    made = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 2, length, groups * 8, generator=made)
    v = torch.randn(2, length, heads * 4, generator=made)
    g = -3 * torch.rand(2, length, heads, generator=made) * torch.rand(heads, generator=made)
    exact = sequential(q.double(), k.double(), v.double(), g.double(), heads, groups)
    error = (Gated(length, heads, groups)(q, k, v, g) - exact).abs().max() / exact.abs().max()
    assert error < 5e-7


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_program_becomes_a_core_ml_package_with_its_pairs(
    precision: str, programs: dict[str, Path], tmp_path: Path
) -> None:
    pytest.importorskip("coremltools", reason="coreml is an extra")
    model = programs[precision] / "model.pt2"
    script = Path(__file__).parents[3] / "tools" / "coreml.py"
    package = tmp_path / "model.mlpackage"
    done = subprocess.run(
        [sys.executable, script, model, package], capture_output=True, text=True, check=True
    )
    counted = [line.split() for line in done.stdout.splitlines()]
    said = {kind: int(count) for count, kind in counted}
    pairs = [
        node
        for node in load_program(model).graph.nodes
        if "quantized_decomposed.quantize_per_tensor" in str(node.target)
    ]
    assert said.get("quantize", 0) == len(pairs)
    assert bool(pairs) == (precision == "int8")
    assert (package / "Data" / "com.apple.CoreML" / "model.mlmodel").is_file()
