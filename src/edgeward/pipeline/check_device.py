"""Try a device: ``python -m edgeward.pipeline.check_device <device> [override ...]``, in the project's folder.

It opens the device as the stage ``profile`` does, has the agent say what is there, and leaves it as it
was. The exit status is 0 if the device can be profiled.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from edgeward.core.errors import UserError
from edgeward.pipeline.compose import compose, roots
from edgeward.profiling.config import ProfileConfig
from edgeward.profiling.transport import open_device

READABLE = {
    "machine": "time taken by others and by the hypervisor (/proc/stat)",
    "clock_mhz": "the cores' clock (cpufreq)",
    "throttles": "throttling events (thermal_throttle)",
    "hottest_c": "temperature (thermal zones)",
    "cooling": "cooling devices (thermal)",
}


def inquire(cfg: ProfileConfig) -> dict[str, Any]:
    """Return what is on a device: the agent's answer to ``describe``, and ``emulated``.

    Raises
    ------
    UserError
        If the device cannot be reached, or lacks something without which it cannot be profiled.
    """
    request = {
        "task": "describe",
        "engine": cfg.engine.model_dump(),
        "threads": 0,
        "affinity": cfg.affinity,
    }
    with open_device(cfg) as device:
        return {**device.ask(request), "emulated": device.emulated}


def describe(cfg: ProfileConfig, found: dict[str, Any]) -> str:
    """Write what was found as lines of text; what is missing, with what it costs."""
    host, engine = found["host"], found["engine"]
    memory = f"{host['memory_bytes'] / 1e9:.1f} GB" if host["memory_bytes"] else "unknown memory"
    rows = [
        ("reached", f"yes ({cfg.transport.kind})"),
        ("machine", f"{host['machine']}, {host['cpu'] or 'CPU unknown'}"),
        ("", f"{host['cores_usable']} of {host['cores']} cores usable, {memory}"),
        ("instructions", ", ".join(host["instructions"]) or "none of those that matter"),
        ("system", host["system"]),
        ("Python", host["python"] or "none, a page"),
        ("engine", f"{engine['name']} {engine['version']}"),
        ("providers", ", ".join(found["available"])),
        ("threads", f"`all` means {found['threads']}"),
    ]
    usable = {k: v for k, v in found["counters"].items() if not isinstance(v, str)}
    rows += [("power counter", f"{kind}: {', '.join(rails)}") for kind, rails in usable.items()]
    missing = [what for name, what in READABLE.items() if not found["readable"].get(name)]
    rows += [("not readable", f"{what}; not judged") for what in missing]
    if not usable:
        rows.append(("no counter", "energy will be `not measured`:"))
        rows += [("", f"{kind}: {reason}") for kind, reason in found["counters"].items()]
    if browser := host.get("browser"):
        fine = "a clock of 5 us, threads" if browser["isolated"] else "a coarse clock, one thread"
        rows.append(("browser", f"{browser['name']}; {fine}"))
    if host["virtual"]:
        rows.append(
            ("virtual", "another machine's load shows as steal at best; prefer real hardware")
        )
    if found["emulated"]:
        rows.append(("emulated", "every timing will be INVALID; parity and operators count"))
    return "\n".join(f"{name:<14} {text}".rstrip() for name, text in rows)


def main(arguments: list[str]) -> int:
    """Compose the device from ``config/``, try it, and print the result."""
    parser = argparse.ArgumentParser(
        prog="python -m edgeward.pipeline.check_device", description="Try a device without a sweep."
    )
    parser.add_argument("device", help="name of a YAML in config/profile/")
    parser.add_argument("override", nargs="*", help="e.g. profile.transport.port=8022")
    given = parser.parse_args(arguments)
    try:
        values = compose(roots(), {"device": given.device}, given.override)
        cfg = ProfileConfig.model_validate(values["profile"])
        print(describe(cfg, inquire(cfg)))
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
