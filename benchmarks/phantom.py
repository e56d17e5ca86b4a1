"""How fast the phantom is drawn, on one core: python benchmarks/phantom.py [images]."""

from __future__ import annotations

import os
import sys
import time

from edgeward.data.phantom import CLASSES, Lesion, Style, render


def main(n: int, size: int = 64, batch: int = 16) -> None:
    """Draw n images in batches as `prepare` does and print images per second."""
    style = Style(classes=CLASSES, size=size, seed=0, overlap=1.2, hair=0.25, noise=4.0)
    lesions = [Lesion(0, i % len(CLASSES), i, 1) for i in range(n)]
    render(lesions[:batch], style)
    wall, cpu = time.perf_counter(), time.process_time()
    done = 0
    for start in range(0, n - batch + 1, batch):
        done += len(render(lesions[start : start + batch], style)[0])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        f"{done} images of {size}x{size}: {done / wall:.0f} images/s, "
        f"{done / cpu:.0f} a second of processor time (load {os.getloadavg()[0]:.1f})"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4000)
