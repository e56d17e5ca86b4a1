"""What the operators of an engine do, by the names that its profiler gives them."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["layout", "to_float", "conversion", "loop", "recurrence", "other"]


@dataclass(frozen=True)
class KernelNames:
    """Operators by what they do; one that is not named computes something without multiplying and summing.

    Attributes
    ----------
    convolutions : name -> position of the weights among the inputs.
    depthwise : the same, of weights (1, k.., channels).
    transposed, products, gemms : transposed convolutions; matrix products (.., m, k) x (.., k, n); of two dimensions.
    integer : multiply integers, whatever the type of their first input is.
    to_float, conversions : change the type of a tensor, from quantized to float or otherwise.
    layout : change how a tensor is laid out and nothing else.
    views : hand the same memory on under another shape, or read only a shape.
    pickers : read no more of their input than they write.
    loops : run other kernels, which are listed by themselves.
    recurrences : run a whole recurrence over tokens as one kernel.
    unknown : multiply and sum, but how much depends on attributes that a kernel does not tell.
    delegates : providers that compute fast, so that one asks how much runs outside of them; none: one does not ask.
    recurrence_advice : what to do about a recurrence that runs a few kernels for each token.
    """

    convolutions: Mapping[str, int]
    depthwise: Mapping[str, int] = field(default_factory=dict)
    transposed: Set[str] = field(default_factory=set)
    products: Set[str] = field(default_factory=set)
    gemms: Set[str] = field(default_factory=set)
    integer: Set[str] = field(default_factory=set)
    to_float: Set[str] = field(default_factory=set)
    conversions: Set[str] = field(default_factory=set)
    layout: Set[str] = field(default_factory=set)
    views: Set[str] = field(default_factory=set)
    pickers: Set[str] = field(default_factory=set)
    loops: Set[str] = field(default_factory=set)
    recurrences: Set[str] = field(default_factory=set)
    unknown: Set[str] = field(default_factory=set)
    delegates: Set[str] = field(default_factory=set)
    recurrence_advice: str = "Use a chunked form made of matrix products."

    @property
    def multiplying(self) -> Set[str]:
        """What multiplies and sums."""
        layers = {*self.convolutions, *self.depthwise, *self.transposed}
        return {*layers, *self.gemms, *self.products, *self.unknown}

    def kind(self, operator: str) -> Kind:
        """Return what an operator does besides computing."""
        named: dict[Kind, Set[str]] = {
            "layout": self.layout,
            "to_float": self.to_float,
            "conversion": self.conversions,
            "loop": self.loops,
            "recurrence": self.recurrences,
        }
        return next((kind for kind, names in named.items() if operator in names), "other")
