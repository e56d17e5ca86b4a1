"""Keys of the ``profile`` group: one device is one YAML in ``config/profile/``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgeward.core.config import Closed
from edgeward.profiling.explain.config import CeilingsConfig, ExplainConfig
from edgeward.profiling.transport.config import HostTransport, TransportConfig
from edgeward.runtimes.base import runtime
from edgeward.runtimes.config import DEFAULT_ENGINE, AnyEngine
from edgeward.runtimes.tolerance import DeviceParityConfig

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


Count = Annotated[int, Field(ge=1)]
Threads = Count | Literal["all"]
LEAST_WINDOWS = 4  # on either side: fewer give the ratio no 95 % interval


def asked_threads(threads: int | str) -> int:
    """Return a thread setting as the agent takes it: 0 is every core that it may use."""
    return 0 if threads == "all" else int(threads)


class WarmupConfig(Closed):
    """Untimed inferences before the clock starts: at least both of these."""

    min_count: int = Field(20, ge=1, description="At least so many.")
    min_duration_s: float = Field(0.3, ge=0, description="At least so long, seconds.")


class ValidityConfig(Closed):
    """Beyond any of these a measurement is INVALID; it is reported all the same, with reasons."""

    judged_percentiles: list[Annotated[float, Field(gt=0, lt=100)]] = Field(
        [50, 90],
        min_length=1,
        description="Percentiles that must have an interval, and a narrow one; the others may be open.",
    )
    max_interval_width: Positive = Field(
        0.10, description="Width of that interval as a share of the percentile."
    )
    max_drift: Positive = Field(
        0.05,
        description="|median of the last quarter / median of the first quarter - 1|: heating, throttling, other load.",
    )
    max_steal: Share = Field(
        0.02,
        description="Time taken by the hypervisor, as a share of the CPU time that the measuring process used.",
    )
    max_other_load: Share = Field(
        0.15,
        description="CPU time of all other processes together, in cores. An idle desktop needs 0.02-0.05.",
    )
    max_clock_drop: Share = Field(
        0.10,
        description="Fall of the clock of the measuring cores during the window, as a share, where the machine shows it.",
    )
    max_heating_c: Positive = Field(
        10.0,
        description="Rise of the hottest sensor during the window, degrees Celsius, where there is one.",
    )


class ThroughputConfig(Closed):
    """Images per second when many are at hand, e.g. a night's backlog (MLPerf's offline scenario)."""

    batches: list[Count] = Field(
        [8], description="Batch sizes, measured in turn; `[]`: not measured."
    )
    threads: Threads = Field("all", description='Threads of the engine; "all": every core.')
    min_duration_s: Positive = Field(
        0.5, description="Each batch size is timed for so long, seconds."
    )


class InterleaveConfig(Closed):
    """Several models in one process, each timed in every round, in random order (`interleave` of the sweep says which): ratios of
    latencies that survive a noisy machine."""

    rounds: int = Field(
        41,
        ge=6,
        le=1000,
        description="41 give a 95 % interval from the 14th to the 28th smallest ratio; 6 are the least.",
    )
    settle: int = Field(
        2,
        ge=0,
        description="Untimed inferences of a model before its timed ones: they bring it back into the caches.",
    )
    block: int = Field(
        5, ge=1, description="Timed inferences of a model in a round; their median counts."
    )


class SustainedConfig(Closed):
    """Minutes without a pause, for the first thread setting: does the device hold its latency when it heats up?"""

    duration_s: float = Field(
        0,
        ge=0,
        le=3000,
        description="Length of the run, seconds; 0: none. 600 for a phone in the hand, 1800 until a closed case is warm.",
    )
    window_s: Positive = Field(
        5,
        description="The curve has a point, with its interval, for each window of so many seconds.",
    )
    edge_s: Positive = Field(
        60,
        description="The windows of the first so many seconds are compared with those of the last.",
    )
    max_slowdown: Positive = Field(
        0.05,
        description="The device holds its latency if the interval of last / first lies below 1 + this, and slows if it lies above.",
    )

    @model_validator(mode="after")
    def _comparable(self) -> SustainedConfig:
        if self.edge_s < LEAST_WINDOWS * self.window_s:
            raise ValueError(
                f"edge_s ({self.edge_s:g}) holds fewer than {LEAST_WINDOWS} windows of window_s ({self.window_s:g})"
            )
        if 0 < self.duration_s < 2 * self.edge_s:
            raise ValueError(
                f"duration_s ({self.duration_s:g}) is below twice edge_s ({self.edge_s:g})"
            )
        return self


class PowerConfig(Closed):
    """Energy per inference, for the first thread setting; where there is no counter it is reported as not measured."""

    counter: Literal["auto", "none", "rapl", "nvml", "ina3221", "odpm"] = Field(
        "auto",
        description="rapl: Intel and AMD processors under Linux; nvml: NVIDIA GPU; ina3221: Jetson board; odpm: rails of an Android "
        "phone (experimental); auto: the first that is there and sees what computes; none: do not look.",
    )
    rails: list[str] = Field(
        [],
        description="The rails to add (odpm), or the one to read (ina3221); `[]`: what suits the counter.",
    )
    idle_s: float = Field(
        2.0, gt=0, le=60, description="Length of the idle part of a window, seconds."
    )
    window_s: float = Field(
        5.0, gt=0, le=120, description="Length of the busy part of a window, seconds."
    )
    windows: int = Field(3, ge=1, le=20, description="Number of windows; the median counts.")


class DeviceConfig(Closed):
    """Which device, and what executes a model on it."""

    name: str = Field(
        pattern=r"^[a-z0-9_]+$", description="Its name in results: profile/{name}.json."
    )
    transport: TransportConfig = HostTransport()
    engine: AnyEngine = DEFAULT_ENGINE
    threads: list[Threads] = Field(
        [1, "all"],
        min_length=1,
        description='Threads of the engine, one measurement each; "all" is every core that the process may use. The first is the '
        "headline in reports.",
    )
    affinity: list[Annotated[int, Field(ge=0)]] | None = Field(
        None,
        description="Cores that the engine may use, e.g. the big ones of a phone: `[4, 5, 6, 7]`; null: all.",
    )
    deadline_s: Positive = Field(
        120,
        description="A process on the device that takes longer than this, seconds, is ended, and the stage fails.",
    )

    @model_validator(mode="after")
    def _carried(self) -> DeviceConfig:
        where = f"config/profile/{self.name}.yaml (key 'engine.name')"
        needed, there = runtime(self.engine.name, where).runs_in, self.transport.carries
        if needed != there:
            raise ValueError(
                f"engine.name {self.engine.name} runs in a {needed}, transport.kind {self.transport.kind} leads to a {there}"
            )
        if there == "page" and self.affinity is not None:
            raise ValueError("affinity: a page cannot choose its cores")
        return self

    @property
    def first_threads(self) -> int:
        """The headline setting of `threads`, as the agent takes it."""
        return asked_threads(self.threads[0])


class DeviceCeilingsConfig(DeviceConfig):
    """What the stage ``ceilings`` reads: the part of a device that its ceilings depend on."""

    ceilings: CeilingsConfig


class ProfileConfig(DeviceConfig):
    """A device, and how to measure on it."""

    batch: int = Field(
        1, ge=1, description="Images per inference. 1 is what a bedside device does."
    )
    warmup: WarmupConfig = WarmupConfig()
    min_duration_s: Positive = Field(
        0.5,
        description="The timed window is at least this long, seconds ... Raise it on a device that heats up: it has to be warm.",
    )
    min_count: int = Field(200, ge=1, description="... and has at least this many inferences ...")
    half_width: Positive = Field(
        0.02,
        description="... and goes on until half the interval of each judged percentile is at most this share of it.",
    )
    max_duration_s: Positive = Field(
        5.0,
        description="It ends after this long, seconds, in any case; with too few inferences it is then INVALID.",
    )
    percentiles: list[Annotated[float, Field(gt=0, lt=100)]] = Field(
        [50, 90, 95, 99],
        min_length=1,
        description="Percentiles of the latency; 50 and 90 are required.",
    )
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="Level of their order-statistic intervals."
    )
    validity: ValidityConfig = ValidityConfig()
    parity: DeviceParityConfig = DeviceParityConfig()
    throughput: ThroughputConfig = ThroughputConfig()
    cold_starts: int = Field(
        3,
        ge=0,
        le=100,
        description="Fresh processes in which import, load and first inference are timed (file in the page cache); 0: not measured.",
    )
    interleave: InterleaveConfig = InterleaveConfig()
    sustained: SustainedConfig = SustainedConfig()
    power: PowerConfig = PowerConfig()
    attempts: int = Field(
        2, ge=1, le=10, description="Times that a setting is measured before an INVALID stands."
    )
    operator_runs: int = Field(
        3,
        ge=1,
        description="Inferences of the separate run that records which kernels execute (never the timed one).",
    )
    explain: ExplainConfig = ExplainConfig()
    seed: int = Field(0, ge=0, description="Seed of the random input image.")

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
