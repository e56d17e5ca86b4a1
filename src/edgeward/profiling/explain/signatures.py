"""Failure signatures: known ways in which a small model comes out slow, after arXiv 2602.00910.

A signature is reported with the numbers that it rests on, whether or not it is present, so that
"not found" can be told from "not looked for".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeward.profiling.explain.config import SignaturesConfig
from edgeward.profiling.explain.kernels import Kernel
from edgeward.profiling.explain.roofline import Bound
from edgeward.records.explanation import SignatureRow
from edgeward.runtimes.kernels import KernelNames

CONVERSIONS = {"to_float", "conversion"}
UNPRODUCTIVE = {*CONVERSIONS, "layout", "loop"}


def signature(
    name: str, present: bool | None, evidence: Mapping[str, Any], text: str, advice: str
) -> SignatureRow:
    """Return a signature as a record.

    Parameters
    ----------
    present : None if it could not be looked for; `text` says why.
    evidence : name -> number or list of names.
    """
    return SignatureRow(
        name=name,
        present=present,
        evidence=dict(evidence),
        text=text,
        advice=advice if present else "",
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _names(kernels: Sequence[Kernel], most: int = 3) -> list[str]:
    """Return the operators that took longest."""
    times: dict[str, float] = {}
    for kernel in kernels:
        times[kernel.operator] = times.get(kernel.operator, 0.0) + kernel.us
    return sorted(times, key=lambda name: -times[name])[:most]


def _time(kernels: Sequence[Kernel]) -> float:
    return sum(kernel.us for kernel in kernels)


def memory_bound(
    kernels: Sequence[Kernel], bounds: Sequence[Bound] | None, limits: SignaturesConfig
) -> SignatureRow:
    """Kernels whose data take longer to move than their products to compute."""
    if bounds is None:
        return signature("memory_bound", None, {}, "The device's ceilings were not measured.", "")
    bound_by_memory = [k for k, b in zip(kernels, bounds, strict=True) if b.by == "memory"]
    share = _time(bound_by_memory) / _time(kernels)
    names = _names(bound_by_memory)
    return signature(
        "memory_bound",
        share >= limits.memory_bound_share,
        {"share": share, "threshold": limits.memory_bound_share, "operators": names,
         "kernels": len(bound_by_memory)},
        f"{_percent(share)} of the time goes to kernels that the memory bounds, most of it to "
        f"{', '.join(names) or 'none'}.",
        "Fewer MACs will not help these. Make tensors smaller or fewer: fuse activations and norms "
        "into convolutions, lower the resolution early, avoid wide depthwise and expansion layers.",
    )  # fmt: skip


def fusion_broken(kernels: Sequence[Kernel], limits: SignaturesConfig) -> SignatureRow:
    """Layout changes, which cost time themselves and keep their neighbours from being fused."""
    layout = [kernel for kernel in kernels if kernel.kind == "layout"]
    products = sum(kernel.calls for kernel in kernels if kernel.macs)
    share = _time(layout) / _time(kernels)
    changes = sum(kernel.calls for kernel in layout)
    per_product = changes / products if products else float(changes)
    left = [k for k in kernels if not k.macs and k.kind not in UNPRODUCTIVE]
    return signature(
        "fusion_broken",
        share >= limits.layout_share or per_product >= limits.layout_per_product,
        {"share": share, "threshold": limits.layout_share, "changes": changes,
         "per_product": per_product, "threshold_per_product": limits.layout_per_product,
         "operators": _names(layout), "unfused_share": _time(left) / _time(kernels)},
        f"{changes} layout changes for {products} convolutions and matrix products take "
        f"{_percent(share)} of the time; {_percent(_time(left) / _time(kernels))} goes to kernels "
        "that were not fused into a product.",
        "Keep one layout through a block: attention on (batch, channel, token) instead of reshaping "
        "to and fro, 1x1 convolutions instead of linear layers between convolutions, split and "
        "concatenate along the channel.",
    )  # fmt: skip


def float_islands(
    kernels: Sequence[Kernel], precision: str, limits: SignaturesConfig
) -> SignatureRow:
    """Float kernels inside an INT8 graph, and the conversions around them."""
    if precision != "int8":
        return signature("float_islands", None, {}, "The model is not INT8.", "")
    conversions = [k for k in kernels if k.kind in CONVERSIONS]
    floats = [k for k in kernels if not k.quantised and k.kind not in CONVERSIONS]
    share = (_time(floats) + _time(conversions)) / _time(kernels)
    # Entering the graph takes one conversion and leaving it another; each island takes two more.
    islands = max(0, sum(k.kind == "to_float" for k in conversions) - 1)
    names = _names(floats)
    return signature(
        "float_islands",
        share >= limits.float_share,
        {"share": share, "threshold": limits.float_share, "islands": islands,
         "conversions": len(conversions), "conversion_share": _time(conversions) / _time(kernels),
         "operators": names},
        f"{_percent(share)} of the time of an INT8 model is spent in float kernels "
        f"({', '.join(names) or 'none'}) and in {len(conversions)} conversions.",
        "Choose activations that the engine has in INT8 (ReLU, hard swish; not GELU, SiLU, layer "
        "norm), or leave the whole block in float so that it is not entered and left again.",
    )  # fmt: skip


def recurrence(
    kernels: Sequence[Kernel], steps: int, advice: str, limits: SignaturesConfig
) -> SignatureRow:
    """A recurrence that runs a few small kernels for each of `steps` tokens; `advice` is the engine's."""
    loops = [kernel for kernel in kernels if kernel.kind == "loop"]
    share = _time(loops) / _time(kernels)
    fused = sum(kernel.kind == "recurrence" for kernel in kernels)
    return signature(
        "recurrence_per_token",
        bool(loops) and share >= limits.recurrence_share,
        {"share": share, "threshold": limits.recurrence_share, "loops": len(loops),
         "operators": _names(loops), "most_calls": steps, "fused_recurrences": fused},
        f"Loops over tokens (Scan, Loop, If: {len(loops)}) take {_percent(share)} of the time; "
        f"recurrences that run as one fused kernel: {fused}.",
        advice,
    )  # fmt: skip


def scalar_kernels(
    kernels: Sequence[Kernel], bounds: Sequence[Bound] | None, limits: SignaturesConfig
) -> SignatureRow:
    """Kernels without products that are slow for what they move: one value at a time, mostly."""
    if bounds is None:
        return signature("scalar_kernels", None, {}, "The device's ceilings were not measured.", "")
    slow = [
        k
        for k, b in zip(kernels, bounds, strict=True)
        if k.macs == 0 and b.us > 1 and k.us > limits.scalar_factor * b.us
        if k.kind not in UNPRODUCTIVE
    ]
    share = _time(slow) / _time(kernels)
    names = _names(slow)
    return signature(
        "scalar_kernels",
        share >= limits.scalar_share and bool(slow),
        {"share": share, "threshold": limits.scalar_share, "factor": limits.scalar_factor,
         "operators": names, "kernels": len(slow)},
        f"{_percent(share)} of the time goes to kernels without products that take more than "
        f"{limits.scalar_factor:g} times as long as moving their data ({', '.join(names) or 'none'}).",
        "The engine computes these one value at a time, or broadcasts and gathers in small pieces. "
        "Use a cheaper function (ReLU, hard swish), write it with operators that are vectorised "
        "(softplus from an exponential and a short series), or arrange tensors so that the last "
        "dimension is long.",
    )  # fmt: skip


def of_model(
    kernels: Sequence[Kernel],
    bounds: Sequence[Bound] | None,
    precision: str,
    names: KernelNames,
    limits: SignaturesConfig,
) -> list[SignatureRow]:
    """Return all signatures that one model's profile can show.

    Parameters
    ----------
    kernels : the outermost ones (a Scan, not the kernels of its body), and the bodies'.
    bounds : roofline time of each kernel; None without ceilings.
    names : what the engine's operators do.
    """
    if not _time(kernels):
        untold = "The engine keeps no times of its operators."
        asked = (
            "memory_bound",
            "fusion_broken",
            "float_islands",
            "recurrence_per_token",
            "scalar_kernels",
        )
        return [signature(name, None, {}, untold, "") for name in asked]
    outer = [i for i, kernel in enumerate(kernels) if kernel.inside is None]
    top = [kernels[i] for i in outer]
    limit = None if bounds is None else [bounds[i] for i in outer]
    steps = max((kernel.calls for kernel in kernels if kernel.inside is not None), default=0)
    return [
        memory_bound(top, limit, limits),
        fusion_broken(top, limits),
        float_islands(top, precision, limits),
        recurrence(top, steps, names.recurrence_advice, limits),
        scalar_kernels(top, limit, limits),
    ]
