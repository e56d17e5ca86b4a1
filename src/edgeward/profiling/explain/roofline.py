"""What a device could do at best, and how long the kernels of a model would take on it.

The roofline model (Williams, Waterman and Patterson, Communications of the ACM 52(4), 2009): work
that multiplies W times and moves Q bytes takes at least max(W / rate, Q / bandwidth). The bandwidth
depends on where the data lie, so it is read off the measured curve at the bytes that the kernel
itself moves: a kernel whose tensors fit the cache is allowed the cache's bandwidth, which keeps the
bound a lower one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from edgeward.profiling.explain.kernels import Kernel
from edgeward.records.explanation import CeilingsUsed


@dataclass(frozen=True)
class Roof:
    """The best rates that were reached on a device.

    Attributes
    ----------
    copies : (working set in bytes, bandwidth in bytes per second), ascending in the first.
    float_rate, integer_rate : multiply-accumulates per second, fp32 and INT8.
    """

    copies: tuple[tuple[float, float], ...]
    float_rate: float
    integer_rate: float

    @classmethod
    def of(cls, record: CeilingsUsed) -> Roof:
        """Take the rates of a record."""
        return cls(
            tuple(sorted((c.bytes, c.gb_per_s * 1e9) for c in record.copy_points)),
            record.fp32_gmac_per_s * 1e9,
            record.int8_gmac_per_s * 1e9,
        )

    def bandwidth(self, moved: float) -> float:
        """Return the bytes per second for a working set, log-linear between those measured."""
        sizes = [size for size, _ in self.copies]
        rates = [rate for _, rate in self.copies]
        if moved <= sizes[0]:
            return rates[0]
        if moved >= sizes[-1]:
            return rates[-1]
        i = next(i for i, size in enumerate(sizes) if size >= moved)
        part = math.log(moved / sizes[i - 1]) / math.log(sizes[i] / sizes[i - 1])
        return rates[i - 1] * (rates[i] / rates[i - 1]) ** part

    def rate(self, kernel: Kernel) -> float:
        """Return the multiply-accumulates per second for the type that a kernel multiplies."""
        return self.integer_rate if kernel.integer else self.float_rate


@dataclass(frozen=True)
class Bound:
    """The least time of a kernel in microseconds, and what sets it."""

    us: float
    by: Literal["compute", "memory"]


def bound(kernel: Kernel, roof: Roof) -> Bound:
    """Return the roofline time of a kernel per inference.

    A kernel that runs several times is bounded call by call, since every call finds its tensors in
    a working set of its own size. MACs that are not known count as none.
    """
    per_call = kernel.bytes_moved / kernel.calls
    memory = kernel.bytes_moved / roof.bandwidth(per_call) if per_call else 0.0
    compute = (kernel.macs or 0) / roof.rate(kernel)
    return Bound(1e6 * max(memory, compute), "compute" if compute > memory else "memory")
