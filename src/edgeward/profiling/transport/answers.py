"""What a page may post: models of the answers, since whoever has the address may send anything."""

from __future__ import annotations

import base64
import binascii
import json
import math
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, RootModel, ValidationError, model_validator

from edgeward.profiling.transport.device import PROBLEM
from edgeward.records.base import Record
from edgeward.records.parts import Count, Counter
from edgeward.records.profile import Conditions, Host
from edgeward.runtimes.agent import TYPES

Word = Annotated[str, Field(min_length=1, max_length=200)]
Told = Annotated[str, Field(min_length=1, max_length=4000)]
Nanoseconds = Annotated[int, Field(ge=0, le=10**14)]
Side = Annotated[int, Field(ge=0, le=10**9)]
Shape = Annotated[list[Side], Field(max_length=8)]
Samples = Annotated[list[Nanoseconds], Field(min_length=1, max_length=1_000_000)]
Threads = Annotated[int, Field(ge=1, le=1024)]


class Part(Record):
    model_config = ConfigDict(strict=True)


class Answer(Part):
    ok: Literal[True]


class Failure(Part):
    ok: Literal[False]
    kind: Word
    message: Told

    @model_validator(mode="after")
    def _known(self) -> Failure:
        if self.kind not in PROBLEM:
            raise ValueError(f"kind {self.kind!r} is none of {', '.join(PROBLEM)}")
        return self


class Engine(Part):
    name: Word
    version: Word


class Logits(Part):
    shape: Annotated[list[Side], Field(min_length=2, max_length=6)]
    float32: str

    @model_validator(mode="after")
    def _whole(self) -> Logits:
        try:
            size = len(base64.b64decode(self.float32, validate=True))
        except binascii.Error as error:
            raise ValueError(f"float32 is no base64: {error}") from None
        if size != 4 * math.prod(self.shape):
            raise ValueError(f"float32 has {size} bytes, not those of {self.shape}")
        return self


class Time(Answer):
    engine: Engine
    providers: Annotated[list[Word], Field(min_length=1, max_length=8)]
    host: Host
    threads: Threads
    resolution: Annotated[list[Side], Field(min_length=2, max_length=3)]
    load_ns: Nanoseconds
    first_ns: Nanoseconds
    warmups: Count
    duration_ns: Annotated[int, Field(ge=1, le=10**14)]
    timer_ns: Nanoseconds
    step_ns: Nanoseconds
    samples_ns: Samples
    precise: bool
    logits: Logits | None
    baseline_bytes: Count
    peak_bytes: Count
    peak_reset: bool
    conditions: Conditions

    @model_validator(mode="after")
    def _took_time(self) -> Time:
        if not sorted(self.samples_ns)[(len(self.samples_ns) - 1) // 2]:
            raise ValueError("most samples of samples_ns are 0")
        return self


class Cold(Answer):
    import_ns: Nanoseconds
    load_ns: Nanoseconds
    first_ns: Nanoseconds


class Decide(Answer):
    engine: Engine
    logits: Logits


Tensor = tuple[Word, Shape]


class Kernel(Part):
    model_config = ConfigDict(strict=False)  # a pair in JSON is a list

    name: Annotated[str, Field(max_length=1000)]
    operator: Word
    provider: Word | None
    inputs: Annotated[list[Tensor], Field(max_length=2000)]
    outputs: Annotated[list[Tensor], Field(max_length=2000)]
    weight_bytes: Count | None
    calls: Annotated[int, Field(ge=1, le=10**7)]
    inside: Annotated[str, Field(max_length=1000)] | None
    us: Annotated[float, Field(ge=0, allow_inf_nan=False)]

    @model_validator(mode="after")
    def _typed(self) -> Kernel:
        if strange := {kind for kind, _ in [*self.inputs, *self.outputs]} - set(TYPES):
            raise ValueError(f"type {min(strange)!r} is none of {', '.join(TYPES)}")
        return self


class Operators(Answer):
    threads: Threads
    runs: Annotated[int, Field(ge=1)]
    kernels: Annotated[list[Kernel], Field(min_length=1, max_length=100_000)]


class Refusal(RootModel[list[int | str]]):
    @model_validator(mode="after")
    def _told(self) -> Refusal:
        match self.root:
            case [int(index), str(reason)] if index >= 0 and 0 < len(reason) <= 4000:
                return self
        raise ValueError("a refusal is the index of a model and a reason")


class Interleave(Answer):
    engine: Engine
    providers: Annotated[list[Word], Field(min_length=1, max_length=8)]
    host: Host
    threads: Threads
    duration_ns: Nanoseconds
    order: Annotated[list[list[Count]], Field(max_length=1000)]
    samples_ns: Annotated[list[list[Samples]], Field(max_length=1000)]
    refused: Annotated[list[Refusal], Field(max_length=1000)]
    conditions: Conditions

    @model_validator(mode="after")
    def _even(self) -> Interleave:
        sizes = {(len(entry), *map(len, entry)) for entry in self.samples_ns}
        if len(sizes) > 1 or any(len(set(size[1:])) > 1 for size in sizes):
            raise ValueError("the rounds of samples_ns are not alike")
        if any(not sum(block) for entry in self.samples_ns for block in entry):
            raise ValueError("a block of samples_ns is 0")
        return self


class Window(Part):
    start_ns: Nanoseconds
    duration_ns: Annotated[int, Field(ge=1, le=10**14)]
    n: Annotated[int, Field(ge=1)]
    samples_ns: Annotated[list[Nanoseconds], Field(min_length=1, max_length=1000)]
    energy_j: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None
    conditions: Conditions


class Sustain(Answer):
    host: Host
    threads: Threads
    logits: Logits
    counter: Counter | None
    reason: Told | None
    windows: Annotated[list[Window], Field(min_length=1, max_length=20_000)]

    @model_validator(mode="after")
    def _took_time(self) -> Sustain:
        if any(not sorted(w.samples_ns)[(len(w.samples_ns) - 1) // 2] for w in self.windows):
            raise ValueError("most samples of a window are 0")
        return self


class Copied(Part):
    bytes: Annotated[int, Field(ge=1)]
    bytes_per_s: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Ceilings(Answer):
    engine: Engine
    host: Host
    threads: Threads
    seconds: Annotated[list[Annotated[float, Field(gt=0, allow_inf_nan=False)]], Field(max_length=100)]  # fmt: skip
    copy_points: Annotated[list[Copied], Field(alias="copy", min_length=1, max_length=100)]


class Energy(Answer):
    reason: Told


class Describe(Answer):
    host: Host
    engine: Engine
    available: Annotated[list[Word], Field(max_length=20)]
    threads: Threads
    readable: dict[Word, bool]
    counters: dict[Word, Told]


ANSWERS: dict[str, type[Answer]] = {
    "time": Time,
    "cold": Cold,
    "decide": Decide,
    "operators": Operators,
    "interleave": Interleave,
    "sustain": Sustain,
    "ceilings": Ceilings,
    "energy": Energy,
    "describe": Describe,
}


def understand(task: str, text: bytes) -> dict[str, Any]:
    """Return what a page posted as the answer to a task.

    Raises
    ------
    ValueError
        If it is none; says in one sentence what is wrong with it.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON: {error}") from None
    model: type[Part] = ANSWERS[task]
    if isinstance(content, dict) and content.get("ok") is False:
        model = Failure
    try:
        model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        at = ".".join(map(str, first["loc"])) or "it"
        raise ValueError(f"{at}: {first['msg'].removeprefix('Value error, ')}") from None
    found: dict[str, Any] = content
    return found
