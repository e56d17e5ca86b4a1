"""The file format of a profile, as closed models: docs/profile.schema.json is made from them.

Every number has its unit in its name or its description. A key that is not here is an error.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator

from edgeward.records.base import File
from edgeward.records.explanation import Explanation
from edgeward.records.parts import (
    Amount,
    Count,
    Counter,
    Interval,
    Judged,
    Parity,
    Part,
    Sha256,
    Share,
    Spread,
    Text,
)
from edgeward.records.sustained import Sustained

PERCENTILE = r"^p\d{1,2}(\.\d+)?$"


class Browser(Part):
    """Where an agent that is a page ran."""

    name: Text = Field(description="Name and version, or all that the browser says of itself.")
    isolated: bool = Field(description="Cross-origin isolated: a clock of 5 us, and threads.")
    secure: bool = Field(description="A secure context: https, or localhost.")


class Host(Part):
    """What kind of machine it was; never its name or its user."""

    machine: Text = Field(description="Instruction set, e.g. x86_64, aarch64.")
    cpu: str | None = Field(description="Model name of the processor.")
    cores: int | None = Field(description="Logical cores of the machine.")
    cores_usable: int = Field(ge=1, description="Logical cores that the process may use.")
    instructions: list[str] = Field(description="Vector and matrix extensions, e.g. avx512_vnni.")
    virtual: bool = Field(description="Whether a hypervisor was seen.")
    memory_bytes: int | None
    system: Text = Field(description="Operating system and its version.")
    python: Text | None = Field(description="Interpreter of the agent; null in a page.")
    browser: Browser | None = Field(default=None, description="Of an agent that is a page.")


class Engine(Part):
    """What executed the model."""

    name: Text
    version: Text
    providers: list[Text] = Field(min_length=1, description="Execution providers that were active.")


class Agent(Part):
    """The program that measured."""

    sha256: Sha256


class ModelFacts(Part):
    """What was measured."""

    file_bytes: int = Field(ge=1)
    sha256: Sha256
    parameters: Count = Field(description="Elements of weights and biases.")
    macs: Count = Field(
        description="Multiply-accumulates of convolutions and matrix products per image."
    )
    macs_not_counted: list[str] = Field(
        description="Operators that multiply but have no closed count."
    )
    input_shape: list[Annotated[int, Field(ge=1)]] = Field(
        min_length=4,
        max_length=5,
        description="batch, channels, height, width; of volumes depth before height",
    )
    precision: Text = Field(description="int8 if the graph quantises, else the weights' type.")


class Latency(Part):
    """Latency of single inferences, ms; percentiles have distribution-free intervals."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra=lambda schema: _percentiles(schema),
    )  # fmt: skip
    __pydantic_extra__: dict[str, Interval]

    mean: Amount
    min: Amount
    max: Amount
    p50: Interval
    p90: Interval

    @model_validator(mode="after")
    def _named(self) -> Latency:
        stray = [name for name in self.__pydantic_extra__ if not re.fullmatch(PERCENTILE, name)]
        if stray:
            raise ValueError(
                f"{', '.join(stray)}: neither mean, min, max nor a percentile as p99.9"
            )
        return self


def _percentiles(schema: dict[str, Any]) -> None:
    schema["patternProperties"] = {PERCENTILE: schema.pop("additionalProperties")}
    schema["additionalProperties"] = False


class Conditions(Part):
    """What else happened on the machine in the timed window; null where it cannot be read."""

    load_average: Amount | None
    own_cpu_s: Amount | None
    preempted: Count | None = Field(description="Involuntary context switches.")
    major_faults: Count | None
    hidden: Count | None = Field(
        default=None, description="Times that an agent that is a page was not in front."
    )
    other_cpu_s: Amount | None = Field(description="CPU time of all other processes, s.")
    steal_s: Amount | None = Field(description="Time that the hypervisor gave to others, s.")
    throttled: Count | None = Field(description="Times that a core was throttled.")
    clock_mhz: list[float | None] = Field(min_length=2, max_length=2, description="before, after")
    hottest_c: list[float | None] = Field(
        min_length=2, max_length=2, description="Hottest thermal zone before, after; deg C"
    )
    cooling: list[int | None] = Field(
        min_length=2, max_length=2, description="States of what slows the CPU, before, after"
    )


class TimedConditions(Conditions):
    """Conditions, and what they mean for single samples."""

    timer_ns: Amount = Field(description="Cost of reading the clock, ns.")
    step_ns: Amount | None = Field(
        default=None, description="Step of the clock, ns; absent or null: too small to matter."
    )
    autocorrelation: float | None = Field(
        ge=-1, le=1, description="Of neighbouring samples' ranks; the intervals assume about zero."
    )


class Setting(Judged):
    """Single-stream latency with one number of threads."""

    threads: int = Field(ge=1)
    batch: int = Field(ge=1, description="Images per inference.")
    resolution: list[Annotated[int, Field(ge=1)]] = Field(
        min_length=2, max_length=3, description="height, width; of volumes depth before them"
    )
    load_ms: Amount = Field(description="Time to make the session, ms.")
    first_ms: Amount = Field(description="First inference, ms.")
    warmup: Count = Field(description="Untimed inferences.")
    n: int = Field(ge=1, description="Timed inferences.")
    duration_s: Amount
    stopped_at: Literal["half_width", "max_duration_s"] = Field(
        description="What ended the window: the asked precision, or the longest duration."
    )
    latency_ms: Latency
    throughput_per_s: Amount = Field(description="Images per second, one inference at a time.")
    peak_memory_mb: Amount = Field(description="Above the process before loading; 10^6 bytes.")
    baseline_memory_mb: Amount
    peak_memory_exact: bool = Field(description="Whether the peak excludes what came before.")
    parity: Parity
    conditions: TimedConditions
    earlier_attempts: list[list[Text]] = Field(description="Reasons of attempts before this one.")


class Throughput(Judged):
    """Images per second in batches, without a pause."""

    threads: int = Field(ge=1)
    batch: int = Field(ge=1)
    n: int = Field(ge=1, description="Timed inferences.")
    duration_s: Amount
    images_per_s: Interval
    peak_memory_mb: Amount
    parity: Parity
    conditions: Conditions
    earlier_attempts: list[list[Text]]


class ColdStart(Part):
    """What a fresh process waits for, ms."""

    n: int = Field(ge=1, description="Fresh processes.")
    import_ms: Spread
    load_ms: Spread
    first_ms: Spread
    total_ms: Spread


class NotMeasured(Part):
    """No energy figure, and why; an estimate has no place here."""

    status: Literal["not measured"]
    reason: Text


class Energy(Judged):
    """Energy per inference by a counter of the machine."""

    status: Literal["measured"]
    counter: Counter
    batch: int = Field(ge=1, description="Images per inference.")
    windows: int = Field(ge=1)
    inferences: int = Field(ge=1)
    duration_s: Amount
    gross_mj: Spread = Field(description="Energy of the window per inference, mJ.")
    net_mj: Spread = Field(description="The same less what the idle machine takes, mJ.")
    idle_w: Spread
    load_w: Spread


class Operators(Part):
    """Operator -> number of nodes."""

    exported: dict[str, Count] = Field(description="In the file.")
    executed: dict[str, Count] = Field(description="By the engine, after fusion.")


class Profile(File):
    """One model on one device: what was measured, how, and whether to believe it."""

    FORMAT: ClassVar[str] = "edgeward-profile/2"
    STAGE: ClassVar[str] = "profile"

    model_config = ConfigDict(
        strict=True,
        title="edgeward profile",
        json_schema_extra={
            "if": {"required": ["refused"], "properties": {"refused": {"type": "string"}}},
            "then": {
                "properties": {
                    "settings": {"maxItems": 0},
                    "throughput": {"maxItems": 0},
                    "explanation": {"type": "null"},
                }
            },
            "else": {
                "properties": {"settings": {"minItems": 1}, "explanation": {"type": "object"}}
            },
        },
    )

    format: Literal["edgeward-profile/2"] = Field(alias="schema")
    device: str = Field(pattern=r"^[a-z0-9_]+$", description="Name that the submitter gives it.")
    emulated: bool = Field(description="An emulator ran the instructions: times mean nothing.")
    host: Host
    engine: Engine
    agent: Agent
    config: dict[str, Any] = Field(
        description="How it was measured: the settings of the program that measured, verbatim."
    )
    model: ModelFacts
    refused: Text | None = Field(
        default=None,
        description="Why the engine cannot load the model, in the engine's words; then nothing was "
        "measured. Absent or null if it can.",
    )
    settings: list[Setting] = Field(
        description="The first one is the headline; at least one, unless the model is refused."
    )
    operators: Operators
    int8_mac_share: Share | None = Field(description="Share of the MACs in integer kernels.")
    throughput: list[Throughput]
    cold_start: ColdStart | None
    energy: Annotated[NotMeasured | Energy, Field(discriminator="status")]
    explanation: Explanation | None = Field(description="null only if the model is refused.")
    sustained: Sustained | None = Field(
        default=None, description="Minutes without a pause. Absent or null: not measured."
    )

    @model_validator(mode="after")
    def _measured_or_refused(self) -> Profile:
        if self.refused is None and not self.settings:
            raise ValueError("settings is empty although the model is not refused")
        if self.refused is None and self.explanation is None:
            raise ValueError("explanation is null although the model is not refused")
        if self.refused is not None and (self.settings or self.throughput or self.explanation):
            raise ValueError("the model is refused, so nothing can have been measured")
        return self

    @model_validator(mode="after")
    def _emulated_is_invalid(self) -> Profile:
        if self.emulated and any(s.verdict == "VALID" for s in self.settings):
            raise ValueError("a setting is VALID although the device is emulated")
        return self


def json_schema() -> dict[str, Any]:
    """Return the format as JSON Schema 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Profile.model_json_schema(by_alias=True),
    }
