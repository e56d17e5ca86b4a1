"""Power counters: what each reads, and what is added and what is not.

``rapl``
    Linux powercap. The domains nest (psys > package > core, uncore; memory beside the package), so
    exactly these are added: every package, and the memory domain of each where there is one. They
    wrap at ``max_energy_range_uj``; one wrap per reading is undone.
``nvml``
    The energy counter of an NVIDIA GPU (Volta and later), through the driver's library.
``ina3221``
    The sensor of Jetson boards through hwmon: power, not energy, so it is sampled and integrated.
    One rail is read, by default the one that feeds the board; others are parts of it.
``odpm``
    The rail monitor of some Android phones through industrial I/O. Which rails do not overlap is
    device specific, so they must be named. Experimental.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SYS = Path("/sys")
BOARD_RAILS = ("VDD_IN", "POM_5V_IN")  # what feeds a whole Jetson, newer and older boards
SAMPLE_S = 0.005  # between two readings of a power sensor


class NoCounter(Exception):
    """Why a counter cannot be used."""


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except PermissionError:
        raise NoCounter(
            f"{path} is there, but only root may read it; give the measuring user read permission"
        ) from None
    except OSError as error:
        raise NoCounter(f"{path} cannot be read: {error.strerror}") from None


class Rapl:
    """Energy of all CPU packages and of the memory domains beside them."""

    kind = "rapl"

    def __init__(self, root: Path, rails: list[str]) -> None:
        if rails:
            raise NoCounter("rapl has fixed domains; `power.rails` must be empty")
        self._domains = []
        # The same packages appear again as intel-rapl-mmio: reading both would count them twice.
        top = sorted(root.glob("class/powercap/intel-rapl:*"))
        for zone in top:
            name = _text(zone / "name")
            package = name.startswith("package")
            if package or (name == "dram" and zone.name.count(":") == 2):
                self._domains.append((name if package else self._owned(zone, name), zone))
        if not self._domains:
            raise NoCounter(
                f"{root}/class/powercap has no package domain (virtual machines and containers "
                "hide it; it also needs the kernel module intel_rapl_msr)"
            )
        self._ranges = [int(_text(zone / "max_energy_range_uj")) for _, zone in self._domains]
        self.domains = [name for name, _ in self._domains]
        self._read()

    @staticmethod
    def _owned(zone: Path, name: str) -> str:
        parent = zone.parent / zone.name.rpartition(":")[0]
        return f"{name} of {_text(parent / 'name')}"

    def _read(self) -> list[int]:
        return [int(_text(zone / "energy_uj")) for _, zone in self._domains]

    def start(self) -> None:
        """Begin a window."""
        self._first = self._read()

    def stop(self) -> float:
        """Return the energy of the window in J."""
        total = 0
        for first, last, span in zip(self._first, self._read(), self._ranges):
            total += last - first if last >= first else last - first + span
        return total / 1e6


class Nvml:
    """Energy counter of one GPU, in steps of 1 mJ, through libnvidia-ml."""

    kind = "nvml"

    def __init__(self, _root: Path, rails: list[str]) -> None:
        if rails:
            raise NoCounter("nvml counts the whole GPU; `power.rails` must be empty")
        try:
            self._library = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError as error:
            raise NoCounter(f"the NVIDIA driver's library is missing: {error}") from None
        self._call("nvmlInit_v2")
        self._handle = ctypes.c_void_p()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip() or "0"
        if visible.isdigit():
            index = ctypes.c_uint(int(visible))
            self._call("nvmlDeviceGetHandleByIndex_v2", index, ctypes.byref(self._handle))
        else:
            self._call("nvmlDeviceGetHandleByUUID", visible.encode(), ctypes.byref(self._handle))
        self.domains = [f"gpu {visible}"]
        self._read()

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._library, function)(*arguments)
        if status:
            raise NoCounter(f"{function} of the NVIDIA driver failed with status {status}")

    def _read(self) -> int:
        value = ctypes.c_ulonglong()
        self._call("nvmlDeviceGetTotalEnergyConsumption", self._handle, ctypes.byref(value))
        return value.value

    def start(self) -> None:
        """Begin a window."""
        self._first = self._read()

    def stop(self) -> float:
        """Return the energy of the window in J."""
        return (self._read() - self._first) / 1e3


class Ina3221:
    """Power of one rail of a Jetson board, sampled by a thread and integrated."""

    kind = "ina3221"

    def __init__(self, root: Path, rails: list[str]) -> None:
        if len(rails) > 1:
            raise NoCounter(f"rails of the board nest; name one in `power.rails`, not {rails}")
        found: dict[str, tuple[Path, Path]] = {}
        for chip in sorted(root.glob("class/hwmon/hwmon*")):
            if not (chip / "name").exists() or _text(chip / "name") != "ina3221":
                continue
            for label in sorted(chip.glob("in[123]_label")):
                channel = label.name[2]
                found[_text(label)] = (chip / f"in{channel}_input", chip / f"curr{channel}_input")
        if not found:
            raise NoCounter(f"{root}/class/hwmon has no ina3221")
        wanted = rails or [name for name in BOARD_RAILS if name in found][:1]
        if not wanted or wanted[0] not in found:
            raise NoCounter(
                f"the ina3221 has no rail {' or '.join(rails or BOARD_RAILS)}, but "
                f"{', '.join(sorted(found))}; name one in `power.rails`"
            )
        self.domains = wanted
        self._volts, self._amperes = found[wanted[0]]
        self._watts()

    def _watts(self) -> float:
        return int(_text(self._volts)) * int(_text(self._amperes)) / 1e6  # mV, mA

    def start(self) -> None:
        """Begin a window."""
        self._over = threading.Event()
        self._samples: list[tuple[float, float]] = []
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()

    def _poll(self) -> None:
        try:
            while True:
                last = self._over.is_set()
                self._samples.append((time.perf_counter(), self._watts()))
                if last:
                    return
                self._over.wait(SAMPLE_S)
        except (NoCounter, ValueError) as error:
            self._failure = error

    def stop(self) -> float:
        """Return the energy of the window in J, by the trapezoidal rule."""
        self._over.set()
        self._thread.join()
        if self._failure is not None:
            raise NoCounter(str(self._failure))
        pairs = zip(self._samples, self._samples[1:])
        return sum((t1 - t0) * (p0 + p1) / 2 for (t0, p0), (t1, p1) in pairs)


class Odpm:
    """Energy of named rails of an Android phone's on-device power monitor, in J (experimental)."""

    kind = "odpm"
    LINE = re.compile(r"^CH\d+(?:\(T=\d+\))?\[([^\]]+)\],\s*(\d+)\s*$")

    def __init__(self, root: Path, rails: list[str]) -> None:
        self._files = sorted(root.glob("bus/iio/devices/iio:device*/energy_value"))
        if not self._files:
            raise NoCounter(f"{root}/bus/iio has no power monitor")
        there = self._all()
        missing = [rail for rail in rails if rail not in there]
        if missing or not rails:
            raise NoCounter(
                f"`power.rails` must name rails that do not overlap, is {rails}; there are "
                f"{', '.join(sorted(there))}"
            )
        self.domains = rails

    def _all(self) -> dict[str, int]:
        """Return the energy since boot of every rail, in microwatt seconds."""
        found = {}
        for file in self._files:
            for line in _text(file).splitlines():
                match = self.LINE.match(line.strip())
                if match:
                    found[match.group(1)] = int(match.group(2))
        return found

    def _read(self) -> int:
        values = self._all()
        return sum(values[rail] for rail in self.domains)

    def start(self) -> None:
        """Begin a window."""
        self._first = self._read()

    def stop(self) -> float:
        """Return the energy of the window in J."""
        return (self._read() - self._first) / 1e6


COUNTERS: dict[str, Callable[[Path, list[str]], Any]] = {
    "rapl": Rapl,
    "ina3221": Ina3221,
    "odpm": Odpm,
    "nvml": Nvml,
}


def find_counter(power: dict[str, Any], on_gpu: bool, root: Path = SYS) -> Any:
    """Return the counter that is asked for, or with "auto" the first one that covers the work.

    Parameters
    ----------
    on_gpu : whether an NVIDIA GPU computes.

    Raises
    ------
    NoCounter
        With the reason, one for each counter that was tried.
    """
    if power["counter"] != "auto":
        return COUNTERS[power["counter"]](root, power["rails"])
    # A CPU counter does not see a GPU, nor the other way round; the board's sensor sees both.
    order = ("nvml", "ina3221") if on_gpu else ("rapl", "ina3221", "odpm")
    reasons = []
    for kind in order:
        try:
            return COUNTERS[kind](root, power["rails"])
        except NoCounter as error:
            reasons.append(f"{kind}: {error}")
    raise NoCounter("; ".join(reasons))
