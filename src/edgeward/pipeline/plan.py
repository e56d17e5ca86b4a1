"""The plan of a sweep: which candidates there are and which slice each stage reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from edgeward.compression.config import RecipeConfig
from edgeward.core.errors import UserError, did_you_mean, unknown
from edgeward.export.config import port_config
from edgeward.models.config import place
from edgeward.pipeline.compose import AXES, Roots, compose, locate, names, parsed, read, shown
from edgeward.pipeline.schema import SweepConfig
from edgeward.pipeline.sections import explain
from edgeward.pipeline.tasks import check_fit
from edgeward.profiling.config import DeviceConfig, ProfileConfig
from edgeward.runtimes.base import REFERENCE, runtime
from edgeward.tasks.base import task_names

# Keys of a data set that only its assessment reads, through the section of its task: no case changes with them.
JUDGED_BY = ("critical", "strata")
SETTINGS = ("sweep", "overrides", "data_root", "weights_root")


class Candidate(NamedTuple):
    """What is judged: a model trained on a data set with a seed, compressed by a recipe."""

    data: str
    model: str
    seed: int
    recipe: str


def check_settings(config: Mapping[str, Any]) -> None:
    """Refuse a key of ``--config`` that the workflow does not read."""
    for key in config:
        if key not in SETTINGS:
            hint = did_you_mean(key, SETTINGS)
            raise UserError(
                f"--config {key}=...: unknown setting.{hint} Known: {', '.join(SETTINGS)}."
            )
    sweep = config.get("sweep", "default")
    if not isinstance(sweep, str | int) or isinstance(sweep, bool):
        raise UserError(
            f"--config sweep={sweep!r}: must be the name of a file in config/sweeps/, without its ending."
        )
    overrides = config.get("overrides", [])
    if not isinstance(overrides, list) or not all(isinstance(o, str) for o in overrides):
        raise UserError(
            f"--config overrides={overrides!r}: must be a list of strings, e.g. "
            "--config 'overrides=[\"train.epochs=3\"]'."
        )


@dataclass(frozen=True)
class Plan:
    """One sweep, read and checked."""

    roots: Roots
    name: str
    file: str
    sweep: SweepConfig
    overrides: tuple[str, ...]
    _taught: dict[tuple[str, str, str], list[str]] = field(default_factory=dict, compare=False)

    @classmethod
    def load(cls, roots: Roots, name: str, overrides: tuple[str, ...] = ()) -> Plan:
        """Read ``config/sweeps/<name>.yaml`` and validate every run in it.

        Raises
        ------
        UserError
            If the sweep is unknown, has an unknown key, or one of its runs cannot be composed.
        """
        path = locate(roots, "sweeps", name, "sweep", "--config sweep=...")
        file = shown(path)
        content = parsed(path)
        try:
            sweep = SweepConfig.model_validate(content)
        except ValidationError as error:
            raise explain(error, SweepConfig, content, lambda _: file) from None
        plan = cls(roots=roots, name=name, file=file, sweep=sweep, overrides=overrides)
        for axis in (*AXES, "seed"):
            values = getattr(sweep, axis)
            if again := {str(v) for v in values if values.count(v) > 1}:
                raise UserError(
                    f"{file}: {axis} is {values}: {', '.join(sorted(again))} stands there twice. Leave one out."
                )
        asked = [(axis, name) for axis in AXES for name in getattr(sweep, axis)]
        for axis, option in asked:
            locate(roots, AXES[axis], option, axis, file)
        read(roots, [(AXES[axis], option) for axis, option in asked])
        teachers = plan.teachers
        for axis, more in (("data", []), ("model", teachers), ("recipe", [])):
            stray = set(getattr(sweep, f"per_{axis}")) - {*getattr(sweep, axis), *more}
            if stray:
                raise UserError(
                    f"{file}: per_{axis} names {sorted(stray)}, not on the axis "
                    f"{axis}: {getattr(sweep, axis)}."
                )
        for data in sweep.data:
            plan._check_folds(data)
            for model in sweep.model:
                # Seeds change no other value, so one composition stands for all of them.
                plan.train(data, model, sweep.seed[0])
                for recipe in sweep.recipe:
                    config = plan.compose(data, model, recipe)
                    check_fit(roots, config, file)
                    reference = config["safety"]["reference"]
                    if reference not in sweep.recipe:
                        raise UserError(
                            f"{file}: recipe lacks '{reference}', the reference "
                            "that config/safety (key 'reference') compares with."
                        )
            for teacher in teachers:
                plan.train(data, teacher, sweep.seed[0])
                config = plan.compose(data, teacher, sweep.recipe[0])
                check_fit(roots, config, file)
        plan._check_sizes()
        if sweep.interleave.model is not None and sweep.interleave.model not in sweep.model:
            raise UserError(
                f"{file}: interleave.model is '{sweep.interleave.model}', not on "
                f"the axis model: {sweep.model}."
            )
        first = plan.candidates[0]
        for recipe in sweep.recipe:
            plan.placed_on(first._replace(recipe=recipe))
        for device in sweep.device:
            plan.compose(first.data, first.model, first.recipe, device)
        plan._check_takers()
        plan._check_deciding()
        return plan

    def _check_takers(self) -> None:
        """Refuse devices with files of their own where there is no program to write them from."""
        own = [device for device in self.sweep.device if self.taker(device) != REFERENCE]
        finished = [c.recipe for c in self.candidates if self.finished(c) is not None]
        if own and finished:
            raise UserError(
                f"{self.file}: device names {own}, whose engines take files of their own, and recipe '{finished[0]}' is a finished "
                "ONNX file: nothing can be written from it. Take one of them out of the sweep."
            )
        if self.sweep.sizes and self.sweep.device[0] in own:
            raise UserError(
                f"{self.file}: sizes are profiled on the first device, '{own[0]}', whose engine takes files of its own; begin "
                "`device` with one that takes ONNX, e.g. host."
            )

    def _check_deciding(self) -> None:
        """Refuse devices that cannot decide."""
        sweep = self.sweep
        if stray := [device for device in sweep.decide_on if device not in sweep.device]:
            raise UserError(
                f"{self.file}: decide_on names {stray}, not on the axis device: {sweep.device}."
            )
        if not sweep.decide_on:
            return
        deep = [d for d in sweep.data if self.prepare(d)["data"]["volume"] is not None]
        if deep:
            raise UserError(
                f"{self.file}: decide_on is {sweep.decide_on}, but {deep} hold volumes, and devices decide images in the "
                "plane only. Take them into a sweep of their own."
            )

    def _check_folds(self, data: str) -> None:
        """Refuse seeds that name no fold of cross-validated data."""
        split = self.prepare(data)["data"]["split"]
        beyond = [s for s in self.sweep.seed if s >= split.get("folds", s + 1)]
        if beyond:
            raise UserError(
                f"{self.file}: seed names {beyond}, but '{data}' has the folds 0 to {split['folds'] - 1} (data.split.folds, "
                f"config/data/), and seed k tests on fold k. Leave them out, or raise folds."
            )

    @cached_property
    def candidates(self) -> list[Candidate]:
        """All candidates of the sweep, in the order of its axes."""
        s = self.sweep
        return [Candidate(*c) for c in product(s.data, s.model, s.seed, s.recipe)]

    @property
    def teachers(self) -> list[str]:
        """The models that the sweep's recipes distil from, each once; they are trained, not judged."""
        s = self.sweep
        named = [t for m in s.model for r in s.recipe for t in self.taught_by(s.data[0], m, r)]
        return list(dict.fromkeys(named))

    def taught_by(self, data: str, model: str, recipe: str) -> list[str]:
        """Return the models that a recipe distils from.

        Raises
        ------
        UserError
            If one of them has no YAML in ``config/model/``.
        """
        if (found := self._taught.get((data, model, recipe))) is not None:  # asked by every job
            return found
        content = self.compose(data, model, recipe)["compress"]
        teachers = RecipeConfig.model_validate(content).teachers
        known = names(self.roots, "model") if teachers else []
        for teacher in teachers:
            if teacher not in known:
                where = f"config/compress/{recipe}.yaml (key 'teacher')"
                raise unknown("teacher", teacher, known, where)
        return self._taught.setdefault((data, model, recipe), teachers)

    def _check_sizes(self) -> None:
        """Compose every network that is profiled at the sweep's sizes."""
        where, s = self.file, self.sweep
        if len(set(s.sizes)) < len(s.sizes) or len(set(s.size_models)) < len(s.size_models):
            raise UserError(f"{where}: sizes {s.sizes} or size_models {s.size_models} repeat.")
        if s.size_models and not s.sizes:
            raise UserError(
                f"{where}: size_models is {s.size_models}, but sizes is empty; name sizes in "
                "pixels, e.g. [64, 128, 224], or no size_models."
            )
        for model in self.scaled:
            self.scaling(model)

    @property
    def scaled(self) -> list[str]:
        """The networks that are profiled, untrained, at each of the sweep's sizes."""
        return list(self.sweep.size_models or self.sweep.model) if self.sweep.sizes else []

    @property
    def untrained(self) -> list[tuple[str, int]]:
        """Every network at every size, pixels."""
        return list(product(self.scaled, self.sweep.sizes))

    def compose(
        self, data: str, model: str, recipe: str, device: str | None = None
    ) -> dict[str, Any]:
        """Compose one run with the sweep's and the command line's overrides."""
        overrides = (
            *self.sweep.overrides,
            *self.sweep.per_data.get(data, ()),
            *self.sweep.per_model.get(model, ()),
            *self.sweep.per_recipe.get(recipe, ()),
            *self.overrides,
        )
        # Some device always, so that one composition serves all stages of a candidate.
        device = device or self.sweep.device[0]
        choices = {"data": data, "model": model, "recipe": recipe, "device": device}
        return compose(self.roots, choices, overrides)

    def prepare(self, data: str) -> dict[str, Any]:
        """Return the slice of `prepare`; models cannot change it."""
        slices = [self.compose(data, m, self.sweep.recipe[0])["data"] for m in self.sweep.model]
        if any(s != slices[0] for s in slices):
            raise UserError(
                f"{self.file}: per_model overrides change 'data', which all models share."
            )
        return {"data": {k: v for k, v in slices[0].items() if k not in JUDGED_BY}}

    def train(self, data: str, model: str, seed: int) -> dict[str, Any]:
        """Return the slice of `train`; recipes cannot change it."""
        configs = [self.compose(data, model, recipe) for recipe in self.sweep.recipe]
        config = configs[0]
        if any(c[key] != config[key] for c in configs for key in ("data", "model", "train")):
            raise UserError(
                f"{self.file}: per_recipe overrides change 'data', 'model' or 'train', "
                "which all recipes share."
            )
        return {"model": config["model"], "train": config["train"], "seed": seed}

    @cached_property
    def _tasks(self) -> list[str]:
        return task_names()

    def stage(self, stage: str, candidate: Candidate, device: str | None = None) -> dict[str, Any]:
        """Return the slice of a stage below `train`."""
        config = self.compose(candidate.data, candidate.model, candidate.recipe, device)
        if stage == "compress":
            content = {"compress": config["compress"], "seed": candidate.seed}
            placed_on = self.placed_on(candidate)
            if placed_on is None:
                return content
            return {**content, "device": self._bench(placed_on), "export": config["export"]}
        if stage == "assess":
            other = {*self._tasks} - {config["data"]["task"]}
            return {"safety": {k: v for k, v in config["safety"].items() if k not in other}}
        return {stage: config[stage]}

    def taker(self, device: str) -> str:
        """Return the runtime whose files a device takes."""
        engine = self.device(device, {"engine"})["engine"]["name"]
        return runtime(engine, f"config/profile/{device}.yaml (key 'engine.name')").file_of

    def port(self, candidate: Candidate, taker: str) -> dict[str, Any]:
        """Return the slice of `port`: a runtime's own file has its own keys, and the tolerances of the one that ships."""
        config = self.compose(candidate.data, candidate.model, candidate.recipe)["export"]
        own = port_config({"runtime": taker, "parity": config["parity"]})
        return {"export": own.model_dump(mode="json")}

    def adopt(self, candidate: Candidate) -> dict[str, Any]:
        """Return the slice of `adopt`, which takes a finished file."""
        config = self.compose(candidate.data, candidate.model, candidate.recipe)
        parts = {key: config[key] for key in ("model", "compress", "export")}
        return {**parts, "seed": candidate.seed}

    def finished(self, candidate: Candidate) -> Path | None:
        """Return the file that a recipe takes as it is; None if it has steps."""
        recipe = self.compose(candidate.data, candidate.model, candidate.recipe)["compress"]
        return None if recipe["file"] is None else place(recipe["file"])

    def placed_on(self, candidate: Candidate) -> str | None:
        """Return the device that a recipe times operators on; None if it times none.

        Raises
        ------
        UserError
            If it has no YAML in ``config/profile/``.
        """
        content = self.compose(candidate.data, candidate.model, candidate.recipe)["compress"]
        device = RecipeConfig.model_validate(content).device
        if device is not None and device not in (known := names(self.roots, "profile")):
            where = f"config/compress/{candidate.recipe}.yaml (key 'device')"
            raise unknown("device", device, known, where)
        return device

    def _bench(self, device: str) -> dict[str, Any]:
        """Return a device with what its times depend on, whatever else sweeps measure there and for how long."""
        return self.device(device, {*DeviceConfig.model_fields, "interleave", "warmup"})

    def trained(self, data: str, model: str) -> bool:
        """Tell whether a model is trained here, or a finished file."""
        return bool(self.compose(data, model, self.sweep.recipe[0])["model"]["builder"] != "onnx")

    def device(self, device: str, keys: Collection[str] | None = None) -> dict[str, Any]:
        """Return a device, with those overrides that name its keys, or only some of its keys."""
        overrides = []
        for override in (*self.sweep.overrides, *self.overrides):
            group, *path = override.lstrip("+~").partition("=")[0].split(".")
            if group == "profile" and path and (keys is None or path[0] in keys):
                overrides.append(override)
        first = self.candidates[0]
        choices = {
            "data": first.data,
            "model": first.model,
            "recipe": first.recipe,
            "device": device,
        }
        return dict(compose(self.roots, choices, overrides)["profile"])

    def decide(self, candidate: Candidate, device: str) -> dict[str, Any]:
        """Return the slice of `decide`: that of `assess`, and the device, without how long it is measured."""
        keys = {*DeviceConfig.model_fields}
        device_only = {k: v for k, v in self.device(device, keys).items() if k in keys}
        return {**self.stage("assess", candidate), "device": device_only}

    def ceilings(self, device: str) -> dict[str, Any]:
        """Return the slice of `ceilings`: what they depend on, and the deadline that the device's file names.

        All sweeps share the record, and profiles follow it: if it depended on how long a latency is measured,
        two sweeps that differ in that would discard each other's timings in turn.
        """
        keys = {*DeviceConfig.model_fields, "explain"} - {"deadline_s"}
        cfg = ProfileConfig.model_validate(self.device(device, keys))
        return {"device": cfg.of_ceilings.model_dump(mode="json")}

    @property
    def interleaved(self) -> list[list[Candidate]]:
        """Groups of candidates that are timed in turns, the first of each being its reference.

        Recipes of every seed, since some choose by the weights what they do (which layers stay float,
        which channels go); models with one seed, since untouched networks do the same work with any weights.
        """
        s, groups = self.sweep, []
        for data in s.data:
            first = {m: Candidate(data, m, s.seed[0], self.reference(data, m)) for m in s.model}
            if s.interleave.recipes:
                for seed, start in product(s.seed, first.values()):
                    reference = start._replace(seed=seed)
                    others = [reference._replace(recipe=r) for r in s.recipe]
                    groups.append([reference, *(c for c in others if c != reference)])
            if s.interleave.model is not None:
                reference = first[s.interleave.model]
                groups.append([reference, *(c for c in first.values() if c != reference)])
        return [group for group in groups if len(group) > 1]

    def interleave(self, device: str) -> dict[str, Any]:
        """Return the slice of `interleave`: the device, and the groups that are compared on it."""
        groups = [[c._asdict() for c in group] for group in self.interleaved]
        return {"profile": self.device(device), "groups": groups}

    def reference(self, data: str, model: str) -> str:
        """Return the recipe that the others are compared with."""
        return str(self.compose(data, model, self.sweep.recipe[0])["safety"]["reference"])

    def pool(self, data: str) -> dict[str, Any]:
        """Return the slice of `pool`: the candidates on a data set, and how they are compared.

        What the safety group says of the first candidate holds for all of them.
        """
        mine = [c for c in self.candidates if c.data == data]
        return {
            **self.stage("assess", mine[0]),
            "candidates": [c._asdict() for c in mine],
            "references": {model: self.reference(data, model) for model in self.sweep.model},
        }

    def scaling(self, model: str) -> dict[str, Any]:
        """Return the slice of `scaling`: what builds and exports a network at any size."""
        data = self.sweep.data[0]
        config = self.compose(data, model, self.reference(data, model))
        return {key: config[key] for key in ("model", "compress", "export", "scaling")}

    def scaling_profile(self, model: str, device: str) -> dict[str, Any]:
        """Return the slice of the profiles at each size: latency of the first thread setting only."""
        data = self.sweep.data[0]
        profile = self.compose(data, model, self.reference(data, model), device)["profile"]
        slim = {
            "threads": profile["threads"][:1],
            "throughput": {**profile["throughput"], "batches": []},
            "cold_starts": 0,
            "power": {**profile["power"], "counter": "none"},
        }
        return {"profile": {**profile, **slim}}

    def report(self) -> dict[str, Any]:
        """Return the slice of `report`: the sweep, and its candidates."""
        candidates = [c._asdict() for c in self.candidates]
        return {"name": self.name, **self.sweep.model_dump(), "candidates": candidates}
