"""Keys of the ``profile`` group: one device is one YAML in ``config/profile/``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgeward.core.config import Closed
from edgeward.profiling.explain.config import CeilingsConfig, ExplainConfig
from edgeward.profiling.transport.config import TransportConfig
from edgeward.runtimes.config import AnyEngine
from edgeward.runtimes.tolerance import DeviceParityConfig

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


Count = Annotated[int, Field(ge=1)]
Threads = Count | Literal["all"]


def asked_threads(threads: int | str) -> int:
    """Return a thread setting as the agent takes it: 0 is every core that it may use."""
    return 0 if threads == "all" else int(threads)


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
    max_heating_c: Positive = Field(
        description="Rise of the hottest sensor over the window, degrees Celsius; where readable."
    )


class ThroughputConfig(Closed):
    """Images per second when they are at hand in batches (MLPerf's offline scenario)."""

    batches: list[Count] = Field(description="Batch sizes, measured in turn; may be empty.")
    threads: Threads
    min_duration_s: Positive


class TurnsConfig(Closed):
    """The comparison of several models in one process, round by round."""

    rounds: int = Field(ge=6, le=1000, description="Every round times every model once.")
    settle: int = Field(ge=0, description="Untimed inferences before each block.")
    block: int = Field(ge=1, description="Timed inferences of a model in a round.")


class PowerConfig(Closed):
    """How energy is measured; without a counter it is reported as not measured."""

    counter: Literal["auto", "none", "rapl", "nvml", "ina3221", "odpm"]
    rails: list[str] = Field(description="Names of rails; empty: those that suit the counter.")
    idle_s: float = Field(gt=0, le=60, description="Length of the idle part of a window.")
    window_s: float = Field(gt=0, le=120, description="Length of the busy part of a window.")
    windows: int = Field(ge=1, le=20, description="Windows; the median counts.")


class DeviceConfig(Closed):
    """Which device, and what executes a model on it."""

    name: str = Field(pattern=r"^[a-z0-9_]+$", description="The name of the YAML file.")
    transport: TransportConfig
    engine: AnyEngine
    threads: list[Threads] = Field(
        min_length=1, description="Settings, measured in turn; the first one is the headline."
    )
    affinity: list[Annotated[int, Field(ge=0)]] | None = Field(
        description="Cores that the engine may use; null: all."
    )
    deadline_s: Positive = Field(description="Longest time a process on the device may take.")

    @property
    def first_threads(self) -> int:
        """The headline setting of `threads`, as the agent takes it."""
        return asked_threads(self.threads[0])


class DeviceCeilingsConfig(DeviceConfig):
    """What the stage ``ceilings`` reads: the part of a device that its ceilings depend on."""

    ceilings: CeilingsConfig


class ProfileConfig(DeviceConfig):
    """What the stage ``profile`` reads: a device, and how to measure on it."""

    batch: int = Field(ge=1, description="Images per inference.")
    warmup: WarmupConfig
    min_duration_s: Positive = Field(description="Timed inferences last at least this long ...")
    min_count: int = Field(ge=1, description="... and are at least so many, and go on ...")
    half_width: Positive = Field(
        description="... until half the interval of each judged percentile is this share of it ..."
    )
    max_duration_s: Positive = Field(description="... unless they last longer than this.")
    percentiles: list[Annotated[float, Field(gt=0, lt=100)]] = Field(min_length=1)
    confidence: float = Field(gt=0.5, lt=1, description="Level of the percentiles' intervals.")
    validity: ValidityConfig
    parity: DeviceParityConfig
    throughput: ThroughputConfig
    cold_starts: int = Field(ge=0, le=100, description="Fresh processes; 0: not measured.")
    interleave: TurnsConfig
    power: PowerConfig
    attempts: int = Field(ge=1, le=10, description="Times an INVALID setting is measured in all.")
    operator_runs: int = Field(ge=1, description="Inferences of the separate operator profile.")
    explain: ExplainConfig
    seed: int = Field(ge=0, description="Of the random input image.")

    @property
    def of_ceilings(self) -> DeviceCeilingsConfig:
        """The part that the device's ceilings depend on."""
        shared = {key: getattr(self, key) for key in DeviceConfig.model_fields}
        shared["threads"] = self.threads[:1]
        return DeviceCeilingsConfig(**shared, ceilings=self.explain.ceilings)

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
        energy_s = self.power.windows * (self.power.idle_s + self.power.window_s)
        if self.power.counter != "none" and self.deadline_s < 1.5 * energy_s:
            raise ValueError(
                f"deadline_s ({self.deadline_s}) is below one and a half times the {energy_s:g} s "
                "of power.windows"
            )
        return self
