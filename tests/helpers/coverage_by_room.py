"""Print what the unit tests reach of the library, room by room; fail below a floor.

python tests/helpers/coverage_by_room.py .coverage.json
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

FLOOR = 90.0  # per cent of all lines; a few below what they reach, so that no noise fails


def main(path: Path) -> int:
    """Return 1 if less than the floor is reached."""
    reached: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    for file, found in json.loads(path.read_text())["files"].items():
        _, _, inside = file.partition("src/edgeward/")
        room = inside.partition("/")[0] if "/" in inside else "edgeward"
        for key in (room, "all"):
            reached[key] += len(found["executed_lines"])
            lines[key] += len(found["executed_lines"]) + len(found["missing_lines"])
    for key in (*sorted(lines.keys() - {"all"}), "all"):
        print(f"{key:12} {100 * reached[key] / lines[key]:5.1f} %")
    whole = 100 * reached["all"] / lines["all"]
    if whole < FLOOR:
        print(f"The unit tests reach {whole:.1f} % of the library, less than {FLOOR} %.")
    return int(whole < FLOOR)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
