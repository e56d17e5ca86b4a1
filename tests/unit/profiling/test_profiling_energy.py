"""Power counters, on trees of files like those that the kernels document."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from refusals import naming

from edgeward.profiling.agent import energy
from edgeward.profiling.agent.counters import Ina3221, NoCounter, Nvml, Odpm, Rapl, find_counter
from edgeward.profiling.measuring import energy_record
from edgeward.records.profile import Energy

RANGE = 262_143_328_850  # microjoules; max_energy_range_uj of a server package
POWER = {"counter": "auto", "rails": [], "idle_s": 2.0, "window_s": 5.0, "windows": 3}


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{content}\n")


def zone(root: Path, place: str, name: str, uj: int, span: int = RANGE) -> Path:
    """Make a powercap zone (Documentation/power/powercap/powercap.rst); return its counter."""
    at = root / "class" / "powercap" / place
    write(at / "name", name)
    write(at / "energy_uj", uj)
    write(at / "max_energy_range_uj", span)
    return at / "energy_uj"


@pytest.fixture
def server(tmp_path: Path) -> dict[str, Path]:
    """Two packages with every kind of domain beside and inside them."""
    return {
        "package-0": zone(tmp_path, "intel-rapl:0", "package-0", 1_000),
        "core": zone(tmp_path, "intel-rapl:0:0", "core", 500),
        "uncore": zone(tmp_path, "intel-rapl:0:1", "uncore", 100),
        "dram-0": zone(tmp_path, "intel-rapl:0:2", "dram", 300, 65_712_999_613),
        "package-1": zone(tmp_path, "intel-rapl:1", "package-1", RANGE - 1_000_000),
        "dram-1": zone(tmp_path, "intel-rapl:1:0", "dram", 0, 65_712_999_613),
        "psys": zone(tmp_path, "intel-rapl:2", "psys", 7),
        "mmio": zone(tmp_path, "intel-rapl-mmio:0", "package-0", 1_000),
    }


def advance(counter: Path, joules: float, span: int = RANGE) -> None:
    value = int(counter.read_text()) + round(joules * 1e6)
    write(counter, value - span if value >= span else value)


def test_packages_and_their_memory_are_added_and_nothing_inside_them(
    tmp_path: Path, server: dict[str, Path]
) -> None:
    counter = Rapl(tmp_path, [])
    assert counter.domains == ["package-0", "dram of package-0", "package-1", "dram of package-1"]
    counter.start()
    joules = {"package-0": 10.0, "dram-0": 2.0, "package-1": 20.0, "dram-1": 3.0}
    for name, file in server.items():
        advance(file, joules.get(name, 99.0))
    # package-1 stood 1 J below its range, so it has wrapped once.
    assert int(server["package-1"].read_text()) < 20_000_000
    assert counter.stop() == pytest.approx(35.0)


@given(start=st.integers(0, RANGE - 1), joules=st.floats(0, (RANGE - 1) / 1e6), cut=st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_a_wrap_is_undone_wherever_it_falls(
    tmp_path_factory: pytest.TempPathFactory, start: int, joules: float, cut: float
) -> None:
    root = tmp_path_factory.mktemp("rapl")
    file = zone(root, "intel-rapl:0", "package-0", start)
    counter = Rapl(root, [])
    total = 0.0
    for part in (joules * cut, joules * (1 - cut)):  # windows that follow each other
        counter.start()
        advance(file, part)
        total += counter.stop()
    assert total == pytest.approx(joules, abs=2e-6)


def test_amd_has_packages_without_memory_domains(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 0, 65_532_610_987)
    zone(tmp_path, "intel-rapl:0:0", "core", 0, 65_532_610_987)
    assert Rapl(tmp_path, []).domains == ["package-0"]


def test_psys_alone_is_not_taken_for_the_packages(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "psys", 0)
    with pytest.raises(NoCounter, match=naming(tmp_path / "class" / "powercap", "intel_rapl_msr")):
        Rapl(tmp_path, [])


def test_counter_that_may_not_be_read_says_so(
    tmp_path: Path, server: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Path.read_text

    def guarded(self: Path, *args: Any, **kwargs: Any) -> str:  # root reads whatever the mode says
        if self == server["package-0"]:
            raise PermissionError(13, "Permission denied")
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", guarded)
    with pytest.raises(NoCounter, match=r"intel-rapl:0/energy_uj is there, but only root may read"):
        Rapl(tmp_path, [])


def test_machine_without_counters_gives_every_reason(tmp_path: Path) -> None:
    with pytest.raises(NoCounter) as caught:
        find_counter(POWER, False, tmp_path)
    for part in ("rapl:", "powercap", "ina3221:", "hwmon", "odpm:"):
        assert part in str(caught.value)


def test_counter_of_the_cpu_is_not_used_for_a_gpu(
    tmp_path: Path, server: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(_: str) -> None:
        raise OSError("libnvidia-ml.so.1: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", absent)
    assert find_counter(POWER, False, tmp_path).kind == "rapl"
    with pytest.raises(NoCounter, match=naming("nvml", "ina3221", "libnvidia-ml.so.1")):
        find_counter(POWER, True, tmp_path)


class Driver:
    """libnvidia-ml as far as it is called: one GPU that takes 250 mJ between readings."""

    def __init__(self, _: str) -> None:
        self.total = 1_000
        self.opened: list[Any] = []

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, handle: Any) -> int:
        self.opened.append(index.value)
        handle._obj.value = 1
        return 0

    def nvmlDeviceGetHandleByUUID(self, name: bytes, handle: Any) -> int:
        self.opened.append(name)
        handle._obj.value = 2
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any, value: Any) -> int:
        if handle.value == 2:
            return 3  # NVML_ERROR_NOT_SUPPORTED
        self.total += 250
        value._obj.value = self.total
        return 0


def test_gpu_is_the_one_that_the_process_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", Driver)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    counter = Nvml(Path("/"), [])
    counter.start()
    assert counter.stop() == pytest.approx(0.25)
    assert counter.domains == ["gpu 3"]
    assert counter._library.opened == [3]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8a")
    with pytest.raises(NoCounter, match=naming("nvmlDeviceGetTotalEnergyConsumption", 3)):
        Nvml(Path("/"), [])


def jetson(root: Path, labels: list[str]) -> Path:
    """Make an ina3221 (Documentation/hwmon/ina3221.rst): rail n at 5000 mV and n x 1000 mA."""
    write(root / "class" / "hwmon" / "hwmon0" / "name", "tmp451")
    at = root / "class" / "hwmon" / "hwmon1"
    write(at / "name", "ina3221")
    for i, label in enumerate(labels, 1):
        write(at / f"in{i}_label", label)
        write(at / f"in{i}_input", 5000)
        write(at / f"curr{i}_input", 1000 * i)
    return at


@pytest.mark.parametrize(
    ("labels", "rails", "domain", "watts"),
    [
        (["VDD_CPU_GPU_CV", "VDD_SOC", "VDD_IN"], [], "VDD_IN", 15.0),  # Orin
        (["POM_5V_GPU", "POM_5V_IN", "POM_5V_CPU"], [], "POM_5V_IN", 10.0),  # Nano
        (["VDD_IN", "VDD_CPU"], ["VDD_CPU"], "VDD_CPU", 10.0),
    ],
)
def test_board_rail_is_read_and_its_parts_are_not_added(
    tmp_path: Path, labels: list[str], rails: list[str], domain: str, watts: float
) -> None:
    jetson(tmp_path, labels)
    counter = Ina3221(tmp_path, rails)
    assert counter.domains == [domain]
    counter.start()
    counter._over.wait(0.03)
    joules = counter.stop()
    lasted = counter._samples[-1][0] - counter._samples[0][0]
    assert len(counter._samples) >= 2
    assert joules == pytest.approx(watts * lasted)


def test_board_without_a_board_rail_asks_for_one(tmp_path: Path) -> None:
    jetson(tmp_path, ["GPU", "CPU", "SOC"])  # Xavier
    with pytest.raises(
        NoCounter, match=naming("VDD_IN", "POM_5V_IN", "CPU", "GPU", "SOC", "power.rails")
    ):
        Ina3221(tmp_path, [])
    with pytest.raises(NoCounter, match=naming("power.rails", "'GPU'", "'CPU'")):
        Ina3221(tmp_path, ["GPU", "CPU"])


def test_sensor_that_goes_away_is_noticed(tmp_path: Path) -> None:
    at = jetson(tmp_path, ["VDD_IN"])
    counter = Ina3221(tmp_path, [])
    (at / "curr1_input").unlink()
    counter.start()
    with pytest.raises(NoCounter, match=naming("curr1_input")):
        counter.stop()


def test_phone_rails_have_to_be_named(tmp_path: Path) -> None:
    file = tmp_path / "bus" / "iio" / "devices" / "iio:device0" / "energy_value"
    write(file, "t=1000\nCH0(T=990)[S4M_VDD_CPUCL0], 2000000\nCH1(T=990)[S2M_VDD_CPUCL2], 500000")
    with pytest.raises(NoCounter, match=naming("power.rails", "S2M_VDD_CPUCL2", "S4M_VDD_CPUCL0")):
        Odpm(tmp_path, [])
    counter = Odpm(tmp_path, ["S4M_VDD_CPUCL0", "S2M_VDD_CPUCL2"])
    counter.start()
    write(file, "t=2000\nCH0(T=990)[S4M_VDD_CPUCL0], 5000000\nCH1(T=990)[S2M_VDD_CPUCL2], 900000")
    assert counter.stop() == pytest.approx(3.4)


class World:
    """A clock that only moves when something is done, and a machine of known power."""

    def __init__(self, idle_w: float, busy_w: float) -> None:
        self.now = self.joules = 0.0
        self.idle_w, self.busy_w = idle_w, busy_w

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.joules += seconds * self.idle_w

    def perf_counter(self) -> float:
        return self.now

    def run(self) -> None:
        self.now += 0.010
        self.joules += 0.010 * self.busy_w

    def start(self) -> None:
        self.first = self.joules

    def stop(self) -> float:
        return self.joules - self.first


def answer_of(world: World, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(energy, "time", world)
    windows = energy.measure_energy(world, world.run, POWER)
    return {"counter": {"kind": "rapl", "domains": ["package-0"]}, "windows": windows}


def test_gross_and_net_energy_of_a_machine_of_known_power(monkeypatch: pytest.MonkeyPatch) -> None:
    record = energy_record(answer_of(World(10.0, 25.0), monkeypatch), batch=1)
    TypeAdapter(Energy).validate_python(record)
    assert record.windows == 3
    assert record.inferences == pytest.approx(1500, abs=3)  # 5 s of 10 ms each, three times
    assert record.gross_mj.median == pytest.approx(250.0)
    assert record.net_mj.median == pytest.approx(150.0)
    assert record.idle_w.median == pytest.approx(10.0)
    assert record.load_w.median == pytest.approx(25.0)
    assert record.verdict == "VALID"


@pytest.mark.parametrize(
    ("world", "reason"),
    [(World(30.0, 25.0), "the machine was not idle"), (World(0.0, 0.0), "did not move")],
)
def test_energy_that_cannot_be_is_invalid(
    world: World, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = energy_record(answer_of(world, monkeypatch), batch=1)
    TypeAdapter(Energy).validate_python(record)
    assert record.verdict == "INVALID"
    assert reason in record.reasons[0]
