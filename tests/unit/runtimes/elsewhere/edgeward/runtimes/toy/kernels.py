"""The operators of small networks."""

from __future__ import annotations

from edgeward.runtimes.kernels import KernelNames

NAMES = KernelNames(convolutions={"Conv": 1}, gemms={"Gemm"}, layout={"Flatten"}, views={"Flatten"})
