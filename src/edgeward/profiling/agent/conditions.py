"""What the operating system tells about the machine and this process."""

from __future__ import annotations

import os
import platform
import resource
import sys
from pathlib import Path
from typing import Any

TICK = os.sysconf("SC_CLK_TCK")
SYS = Path("/sys")
# Types of cooling devices that lower the clock: ACPI processors, cpufreq drivers, idle injection.
SLOWING = ("processor", "thermal-cpufreq", "cpufreq", "thermal-idle")


def read(path: str) -> str | None:
    try:
        return Path(path).read_text()
    except OSError:
        return None


def status_bytes(key: str) -> int | None:
    """Return a memory figure of this process from /proc/self/status, in bytes."""
    for line in (read("/proc/self/status") or "").splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return None


def peak_bytes() -> int:
    peak = status_bytes("VmHWM")
    if peak is not None:
        return peak
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def reset_peak() -> bool:
    """Make the kernel forget the peak so far (Linux, proc(5) clear_refs = 5)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _machine_ticks() -> dict[str, float] | None:
    """Return busy and stolen seconds of the whole machine since boot (proc(5) stat)."""
    lines = (read("/proc/stat") or "").splitlines()
    if not lines:
        return None
    user, nice, system, _idle, _wait, irq, soft, steal = map(int, lines[0].split()[1:9])
    return {"busy_s": (user + nice + system + irq + soft) / TICK, "steal_s": steal / TICK}


def _clock_mhz() -> float | None:
    """Return the mean current clock of the cores that this process may use."""
    root = "/sys/devices/system/cpu/cpu{}/cpufreq/scaling_cur_freq"
    values = [read(root.format(core)) for core in cores()]
    known = [int(v) / 1000 for v in values if v is not None]
    return sum(known) / len(known) if known else None


def _throttles() -> int | None:
    """Return how often the cores have been throttled since boot, where the machine tells."""
    root = "/sys/devices/system/cpu/cpu{}/thermal_throttle/core_throttle_count"
    values = [read(root.format(core)) for core in cores()]
    known = [int(v) for v in values if v is not None]
    return sum(known) if known else None


def _hottest_c(root: Path = SYS) -> float | None:
    """Return the temperature of the hottest thermal zone, in degrees Celsius.

    Zones report millidegrees (Documentation/driver-api/thermal/sysfs-api.rst); those that cannot be
    read or that are off (zero and below) are left out.
    """
    found = []
    for zone in sorted(root.glob("class/thermal/thermal_zone*/temp")):
        text = read(str(zone))
        if text is not None and int(text) > 0:
            found.append(int(text) / 1000)
    return max(found) if found else None


def _cooling(root: Path = SYS) -> int | None:
    """Return the sum of the states of all cooling devices that slow the CPU; 0 is full speed."""
    states = []
    for device in sorted(root.glob("class/thermal/cooling_device*")):
        kind, state = read(str(device / "type")), read(str(device / "cur_state"))
        if kind is not None and state is not None and kind.strip().lower().startswith(SLOWING):
            states.append(int(state))
    return sum(states) if states else None


def snapshot() -> dict[str, Any]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "machine": _machine_ticks(),
        "own_s": usage.ru_utime + usage.ru_stime,
        "preempted": usage.ru_nivcsw,
        "major_faults": usage.ru_majflt,
        "throttles": _throttles(),
        "clock_mhz": _clock_mhz(),
        "hottest_c": _hottest_c(),
        "cooling": _cooling(),
    }


def between(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return what happened on the machine between two snapshots; None where it cannot be read."""
    own = after["own_s"] - before["own_s"]
    result: dict[str, Any] = {
        "own_cpu_s": own,
        "preempted": after["preempted"] - before["preempted"],
        "major_faults": after["major_faults"] - before["major_faults"],
        "other_cpu_s": None,
        "steal_s": None,
        "throttled": None,
        "clock_mhz": [before["clock_mhz"], after["clock_mhz"]],
        "hottest_c": [before["hottest_c"], after["hottest_c"]],
        "cooling": [before["cooling"], after["cooling"]],
    }
    if before["machine"] and after["machine"]:
        busy = after["machine"]["busy_s"] - before["machine"]["busy_s"]
        result["other_cpu_s"] = max(0.0, busy - own)
        result["steal_s"] = after["machine"]["steal_s"] - before["machine"]["steal_s"]
    if before["throttles"] is not None:
        result["throttled"] = after["throttles"] - before["throttles"]
    return result


def describe_host() -> dict[str, Any]:
    """Return what identifies the kind of machine (never its name or its user)."""
    cpuinfo: dict[str, str] = {}
    for line in (read("/proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        cpuinfo.setdefault(key.strip(), value.strip())
    flags = (cpuinfo.get("flags") or cpuinfo.get("Features") or "").split()
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm")
    memory = None
    for line in (read("/proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            memory = int(line.split()[1]) * 1024
    return {
        "machine": platform.machine(),
        "cpu": cpuinfo.get("model name") or platform.processor() or None,
        "cores": os.cpu_count(),
        "cores_usable": len(cores()),
        "instructions": [flag for flag in wanted if flag in flags],
        "virtual": "hypervisor" in flags,
        "memory_bytes": memory,
        "system": platform.platform(),
        "python": platform.python_version(),
    }
