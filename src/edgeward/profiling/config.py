"""Keys of the ``profile`` group: one device is one YAML in ``config/profile/``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgeward.core.config import Closed
from edgeward.profiling.transport.config import TransportConfig

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class EngineConfig(Closed):
    """What executes the model."""

    name: Literal["onnxruntime"]
    providers: list[Annotated[str, Field(min_length=1)]] = Field(
        min_length=1, description="Execution providers, in order of preference; all must exist."
    )
    spinning: bool = Field(description="Whether idle threads of the engine's pool spin.")


class WarmupConfig(Closed):
    """Untimed inferences before the timed ones: at least both of these."""

    min_count: int = Field(ge=1)
    min_duration_s: float = Field(ge=0)


class ValidityConfig(Closed):
    """Beyond any of these a measurement is INVALID; it is reported all the same, with reasons."""

    judged_percentiles: list[Annotated[float, Field(gt=0, lt=100)]] = Field(
        min_length=1, description="Percentiles whose intervals are judged; the others may be open."
    )
    max_interval_width: Positive = Field(
        description="Width of a judged percentile's interval, as a share of the percentile."
    )
    max_drift: Positive = Field(
        description="Change of the median from the first quarter to the last, as a share."
    )
    max_steal: Share = Field(
        description="Time that the hypervisor gave to others, as a share of the CPU time used."
    )
    max_other_load: Share = Field(
        description="CPU time of all other processes, as a share of one core."
    )
    max_clock_drop: Share = Field(
        description="Fall of the CPU clock over the window, as a share; where it can be read."
    )


class ProfileConfig(Closed):
    """What the stage ``profile`` reads: a device, and how to measure on it."""

    name: str = Field(pattern=r"^[a-z0-9_]+$", description="The name of the YAML file.")
    transport: TransportConfig
    engine: EngineConfig
    threads: list[Annotated[int, Field(ge=1)] | Literal["all"]] = Field(
        min_length=1, description="Settings, measured in turn; the first one is the headline."
    )
    batch: int = Field(ge=1, description="Images per inference.")
    warmup: WarmupConfig
    min_duration_s: Positive = Field(description="Timed inferences last at least this long ...")
    min_count: int = Field(ge=1, description="... and are at least so many ...")
    max_duration_s: Positive = Field(description="... unless they last longer than this.")
    percentiles: list[Annotated[float, Field(gt=0, lt=100)]] = Field(min_length=1)
    confidence: float = Field(gt=0.5, lt=1, description="Level of the percentiles' intervals.")
    validity: ValidityConfig
    attempts: int = Field(ge=1, le=10, description="Times an INVALID setting is measured in all.")
    operator_runs: int = Field(ge=1, description="Inferences of the separate operator profile.")
    deadline_s: Positive = Field(description="Longest time a process on the device may take.")
    seed: int = Field(ge=0, description="Of the random input image.")

    @model_validator(mode="after")
    def _consistent(self) -> ProfileConfig:
        if self.max_duration_s < self.min_duration_s:
            raise ValueError(
                f"max_duration_s ({self.max_duration_s}) is below "
                f"min_duration_s ({self.min_duration_s})"
            )
        missing = {50.0, 90.0, *self.validity.judged_percentiles} - set(self.percentiles)
        if missing:
            raise ValueError(f"percentiles lacks {sorted(missing)}")
        if self.deadline_s < 2 * self.max_duration_s:
            raise ValueError(
                f"deadline_s ({self.deadline_s}) is below twice "
                f"max_duration_s ({self.max_duration_s})"
            )
        return self
