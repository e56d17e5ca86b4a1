"""Softplus of vectorised operators: onnxruntime's own kernel, and its Log, go value by value.

softplus(x) = max(x, 0) + log1p(t) with t = exp(-|x|), and log1p(t) = 2 artanh(z) with z = t / (2 + t)
in (0, 1/3] (Abramowitz & Stegun 4.6.22). artanh(z) / z is a polynomial in z^2: the one of degree 4
with the smallest largest relative error on that interval, 4e-9. Unlike -log(sigmoid(-x)) it is
accurate to float32 rounding for every x.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnxscript import opset20

from edgeward.runtimes.onnxruntime.lowering import Site

# Of 2 artanh(z) / z in powers of z^2; fitted by iteratively reweighted least squares (Lawson).
COEFFICIENTS = (
    2.0000000079203306,
    0.6666631468323212,
    0.4002491026569901,
    0.2796060319598197,
    0.28178332312282994,
)


def translate(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:  # noqa: ARG001
    """Write torch's softplus as one node; what it leaves out above `threshold` is below rounding."""
    if beta == 1.0:
        return opset20.Softplus(x)
    return opset20.Div(opset20.Softplus(opset20.Mul(x, beta)), beta)


def lower(site: Site) -> None:
    """Write 17 elementwise nodes in place of ``Softplus``."""
    (x,) = site.node.input
    t = site.add("Exp", [site.add("Neg", [site.add("Abs", [x], "abs")], "neg")], "t")
    two = site.constant("two", np.array(2, np.float32))
    z = site.add("Div", [t, site.add("Add", [t, two], "t2")], "z")
    square = site.add("Mul", [z, z], "zz")
    *lower_terms, highest = [
        site.constant(f"c{i}", np.array(value, np.float32)) for i, value in enumerate(COEFFICIENTS)
    ]
    series = highest
    for i, term in reversed(list(enumerate(lower_terms))):
        series = site.add("Add", [site.add("Mul", [series, square], f"m{i}"), term], f"p{i}")
    log1p = site.add("Mul", [z, series], "log1p")
    site.add("Add", [site.add("Relu", [x], "relu"), log1p], site.node.output[0])
