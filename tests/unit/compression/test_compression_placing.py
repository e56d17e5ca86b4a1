"""Placement by times: the minimum cut against every placement there is, and what a recipe ships by it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compression_trained import Trained, train
from hypothesis import given, settings
from hypothesis import strategies as st
from shipped import shipped
from torch import nn
from torch.export import ExportedProgram
from torch.nn import functional

from edgeward.compression import backend
from edgeward.compression.config import RecipeConfig
from edgeward.compression.constraint.placement import place
from edgeward.compression.placing.cut import Flow, Problem
from edgeward.compression.placing.network import read_network
from edgeward.compression.stage import run
from edgeward.core.errors import UserError
from edgeward.models.program import load_program
from edgeward.records.recipe import Recipe
from edgeward.runtimes.base import Bench, Form, Piece, Timed, runtime

TIMES = st.floats(0, 10)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Problem, list[float]]:
    """Draw a placement of up to six operators, and the harm of each."""
    n = draw(st.integers(1, 6))
    unit = st.integers(0, n - 1)
    flow = st.builds(
        lambda producer, readers, fixed, i, f: Flow(
            producer, tuple(sorted(readers - {producer})), fixed, i, f
        ),
        *(st.none() | unit, st.frozensets(unit, max_size=3), st.booleans(), TIMES, TIMES),
    )
    each = st.tuples(*[TIMES] * n)
    return Problem(
        floats=draw(each),
        integers=draw(st.tuples(*[TIMES | st.just(math.inf)] * n)),
        flows=tuple(draw(st.lists(flow, max_size=6))),
        after=tuple(draw(st.lists(st.tuples(unit, unit), max_size=2))),
    ), list(draw(each))


@settings(max_examples=60, deadline=None)
@given(problems())
def test_no_placement_is_faster_than_the_cut(drawn: tuple[Problem, list[float]]) -> None:
    problem, harm = drawn
    every = [*itertools.product([False, True], repeat=len(harm))]
    best = min(map(problem.time, every))
    assert problem.time(problem.fastest()) == pytest.approx(best, abs=1e-6)
    assert best <= problem.time([False] * len(harm))  # so float is in the set


@settings(max_examples=40, deadline=None)
@given(problems(), st.floats(0.01, 100))
def test_the_front_is_optimal_at_every_price(
    drawn: tuple[Problem, list[float]], price: float
) -> None:
    problem, harm = drawn

    def at(integer: Sequence[bool]) -> tuple[float, float]:
        return problem.time(integer), sum(h for h, is_int in zip(harm, integer, strict=True) if is_int)  # fmt: skip

    every = map(at, itertools.product([False, True], repeat=len(harm)))
    front = [at(placed) for placed in problem.front(harm)]
    best = min(time + price * hurt for time, hurt in every)
    assert min(time + price * hurt for time, hurt in front) == pytest.approx(best, abs=1e-4, rel=1e-5)  # fmt: skip
    assert front == sorted(front, key=lambda point: (point[0], -point[1]))


class Net(nn.Module):
    """A residual block with an activation that is fused, one that is not, and a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.out = nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(16, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.stem(image))
        y = self.out(functional.hardswish(self.depthwise(x)))
        return self.head((x + y).mean((2, 3)))


def test_units_are_what_the_engine_fuses_together() -> None:
    graph = backend.capture(Net().eval(), torch.rand(2, 3, 32, 32))
    network = read_network(graph, [])
    found = {unit.piece.kind + "".join(map(str, unit.piece.behind[:1])): unit for unit in network.units}  # fmt: skip
    assert set(found) == {"convrelu", "convhardswish", "conv", "add", "linear"}
    assert dict(found["convhardswish"].piece.settings)["groups"] == 16
    assert (found["convrelu"].piece.absorbed, found["convhardswish"].piece.absorbed) == (True, False)  # fmt: skip
    assert not any(any(unit.piece.plain) for unit in network.units)
    assert found["linear"].piece.floats  # logits are not rounded
    by_shape = {(t.shape, t.producer): t for t in network.tensors}
    image = by_shape[(1, 3, 32, 32), None]
    assert image.readers == (0,)
    summed = next(t for t in network.tensors if t.producer is not None and network.units[t.producer].piece.kind == "add")  # fmt: skip
    assert summed.float_reader  # the mean
    relu = next(t for t in network.tensors if t.producer == 0)
    assert len(relu.readers) == 2  # the layer behind it, and the sum
    everything = place(graph, [], ())
    assert {unit.name for unit in network.units} <= everything.integer
    without = place(graph, [], [network.units[1].name])
    assert everything.integer - without.integer == {network.units[1].name}


def test_what_ends_in_float_is_not_converted_to_it_again() -> None:
    graph = backend.capture(Net().eval(), torch.rand(2, 3, 32, 32))
    network = read_network(graph, [])
    # A conversion between neighbours takes 5 us, alone 1.
    us = [5.0 if len(p.output) == 4 else 1.0 for p, _ in network.asked]
    problem = network.problem(us)
    leaving = {network.units[f.producer].piece.behind: f.to_float for f in problem.flows if f.producer is not None}  # fmt: skip
    assert leaving[("hardswish",)] == 3.0  # less the conversion of its result, and that back
    assert leaving[("relu",)] == leaving[()] == 5.0


class Gated(nn.Module):
    """An activation and a gate that onnxruntime computes outside of its layout, between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 1)
        self.gate = nn.Conv2d(16, 16, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = functional.hardswish(self.first(image))
        return self.last(x * self.gate(x.mean((2, 3), keepdim=True)).sigmoid()).mean((2, 3))


def test_what_is_outside_of_the_layout_pays_for_the_change_once() -> None:
    graph = backend.capture(Gated().eval(), torch.rand(2, 3, 16, 16))
    plain = runtime("onnxruntime", "a test").plain
    units = {unit.name: unit.piece for unit in read_network(graph, [], plain).units}
    shown = {name: piece.plain for name, piece in units.items() if piece.plain}
    # Between activation and gate nothing changes; the convolution behind the gate is its neighbour, whose layout the gate pays for.
    assert shown == {"conv2d": (False, True), "mul": (True, False, False)}
    assert [end.laid_out for end in units["mul"].ends("float")] == [False, True, True]
    assert [end.laid_out for end in units["mul"].ends("int")] == [True, True, True]


class PriceList(Bench):
    """A device by decree: times of float and integer operators, of conversions, and how long the whole takes."""

    name, runtime = "decreed", runtime("onnxruntime", "a test")

    def __init__(self, floats: float, integers: float, conversion: float, ratio: float) -> None:
        self.us = {"float": floats, "int": integers}
        self.conversion, self.ratio = conversion, ratio

    def costs(self, asked: Sequence[tuple[Piece, Form]]) -> list[float]:
        moving = ("quantize", "dequantize")
        return [self.conversion if p.kind in moving else self.us[form] for p, form in asked]

    def in_turns(
        self, reference: ExportedProgram, programs: Sequence[ExportedProgram]
    ) -> list[Timed]:
        (_,) = programs
        return [Timed(1.0, self.ratio, (self.ratio, self.ratio - 0.01, self.ratio + 0.01))]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(tmp_path_factory.mktemp("placing"))


def compressed(
    world: Trained, out: Path, bench: Bench | None, name: str = "fast_int8"
) -> tuple[Recipe, np.ndarray]:
    """Run a shipped recipe; return its record, and the logits of a few images."""
    content = shipped("compress", name)
    content["steps"][1]["observer"] = "minmax"
    if (limits := content["steps"][1]["constraint"]) is not None:
        limits["acceptance"] |= {"resamples": 200}
        limits["margins"] = {"recall": 0.5, "ece": 0.5}
        content["steps"][1]["ranking_images"] = 24
    out.mkdir()
    run(
        RecipeConfig.model_validate(content),
        seed=0,
        checkpoint=world.student,
        prepared=world.data.root,
        out=out,
        work=out / "work",
        threads=1,
        bench=bench,
    )
    size = world.data.images.shape[1:3]
    images = torch.full((3, 3, *size), 90.0) + 60 * torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(0))  # fmt: skip
    with torch.no_grad():
        logits = load_program(out / "model.pt2").module()(images).numpy()
    return Recipe.read(out / "recipe.json"), logits


def test_what_is_faster_in_integers_ships_so(world: Trained, tmp_path: Path) -> None:
    record, _ = compressed(world, tmp_path / "a", PriceList(10, 4, 1, 0.5))
    effect: Any = record.effects[1]
    assert (effect["ships"], record.precision, effect["float"]) == ("int8", "int8", [])
    assert len(effect["integer"]) == effect["units"] > 2
    assert effect["placed_ms"] < effect["float_ms"]


def test_float_ships_where_no_operator_is_faster(world: Trained, tmp_path: Path) -> None:
    plain, logits = compressed(world, tmp_path / "fp32", PriceList(5, 4.9, 40, 0.5))
    assert (plain.precision, plain.effects[1]["integer"]) == ("fp32", [])
    assert "no operator" in str(plain.effects[1]["reason"])
    assert plain.calibration.n == 0
    slower, same = compressed(world, tmp_path / "slower", PriceList(10, 4, 1, 1.2))
    assert "1.200 times as long" in str(slower.effects[1]["reason"])
    assert (slower.precision, slower.quantized_parameter_share) == ("fp32", 0.0)
    assert slower.found["float_ships"] == slower.effects[1]["reason"]
    np.testing.assert_array_equal(logits, same)


def test_the_safe_form_walks_the_front_and_aligns(world: Trained, tmp_path: Path) -> None:
    record, _ = compressed(world, tmp_path / "a", PriceList(10, 4, 1, 0.5), "safe_fast_int8")
    effect: Any = record.effects[1]
    front = effect["front"]
    assert [p["ms"] for p in front] == sorted(p["ms"] for p in front)
    assert [p["harm"] for p in front] == sorted((p["harm"] for p in front), reverse=True)
    assert effect["holds"]
    assert all(v <= 0 for v in effect["violations"])
    assert effect["chosen"]["ms"] == pytest.approx(effect["placed_ms"])
    assert set(effect["harm"]) == {*effect["integer"], *effect["float"]}
    assert record.effects[2]["step"] == "align_decisions"


def test_without_a_device_there_are_no_times(world: Trained, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="device"):
        compressed(world, tmp_path / "a", None)
