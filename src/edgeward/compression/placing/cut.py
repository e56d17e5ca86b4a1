"""The fastest placement of a network, exactly: a minimum cut.

Every operator runs in float or in integers, and every tensor is converted at most once each way. So the time of a network is a sum of
terms of one label and of terms of two, and of the latter none is larger for unlike labels than the sum over like ones: a cut between the
operators in integers (the source's side) and those in float (the sink's), whose capacities are the times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

TOTAL = 10**9  # of all capacities together, which are 32-bit integers
NEVER = 2 * 10**9
INTEGER, FLOAT = 0, 1  # source and sink


@dataclass(frozen=True)
class Flow:
    """A tensor and what its conversions take.

    Attributes
    ----------
    producer : the operator whose label it has; None: it is float.
    readers : operators that read it as their label says. float_reader : whether something else reads it, which is always float.
    to_int, to_float : time of a conversion.
    """

    producer: int | None
    readers: tuple[int, ...]
    float_reader: bool
    to_int: float
    to_float: float


@dataclass(frozen=True)
class Problem:
    """Times of operators in both forms, and the tensors between them.

    Attributes
    ----------
    floats, integers : time of every operator; inf: there is no such form.
    after : pairs of operators, of which the first can only be in integers if the second is.
    """

    floats: tuple[float, ...]
    integers: tuple[float, ...]
    flows: tuple[Flow, ...]
    after: tuple[tuple[int, int], ...] = ()

    def time(self, integer: Sequence[bool]) -> float:
        """Return the time of a placement; inf if it cannot be."""
        total = sum(i if is_int else f for f, i, is_int in zip(self.floats, self.integers, integer, strict=True))  # fmt: skip
        if any(integer[one] and not integer[other] for one, other in self.after):
            return math.inf
        for flow in self.flows:
            made_int = flow.producer is not None and integer[flow.producer]
            if made_int and (flow.float_reader or not all(integer[r] for r in flow.readers)):
                total += flow.to_float
            if not made_int and any(integer[r] for r in flow.readers):
                total += flow.to_int
        return total

    def fastest(self, penalty: Sequence[float] | None = None) -> list[bool]:
        """Return which operators of the fastest placement are in integers; of equally fast ones, that with the fewest.

        Parameters
        ----------
        penalty : what every operator costs in integers besides its time, in units of it; none negative.
        """
        added = np.zeros(len(self.floats)) if penalty is None else np.asarray(penalty)
        edges: list[tuple[int, int, float]] = []
        first, count = 2, 2 + len(self.floats)
        for unit, (f, i) in enumerate(zip(self.floats, self.integers + added, strict=True)):
            least = min(f, i)  # what both forms take changes nothing
            edges += [(INTEGER, first + unit, f - least), (first + unit, FLOAT, i - least)]
        edges += [(first + one, first + other, math.inf) for one, other in self.after]
        for flow in self.flows:
            made = FLOAT if flow.producer is None else first + flow.producer
            readers = [first + reader for reader in flow.readers]
            if flow.producer is not None:
                needs_float, count = count, count + 1
                edges.append((made, needs_float, flow.to_float))
                edges += [(needs_float, reader, math.inf) for reader in readers]
                if flow.float_reader:
                    edges.append((needs_float, FLOAT, math.inf))
            needs_int, count = count, count + 1
            edges.append((needs_int, made, flow.to_int))
            edges += [(reader, needs_int, math.inf) for reader in readers]
        return _source_side(count, edges)[first : first + len(self.floats)]

    def front(self, harm: Sequence[float]) -> list[list[bool]]:
        """Return the placements that are fastest for some price of harm, the fastest first, the harmless last.

        Parameters
        ----------
        harm : of every operator in integers; none negative.
        """
        harms = np.asarray(harm, dtype=float)
        harmless = replace(self, integers=tuple(np.where(harms > 0, math.inf, self.integers)))

        def at(integer: Sequence[bool]) -> tuple[float, float]:
            return self.time(integer), float(harms[np.asarray(integer, dtype=bool)].sum())

        def between(one: list[bool], other: list[bool]) -> list[list[bool]]:
            (fast, more), (slow, less) = at(one), at(other)
            if more - less <= 1e-12 or slow - fast <= 1e-12:
                return []
            price = (slow - fast) / (more - less)
            middle = self.fastest((price * harms).tolist())
            time, mine = at(middle)
            gain = fast + price * more - (time + price * mine)
            if gain <= 1e-6 * max(abs(slow), 1e-12) or middle in (one, other):
                return []
            return [*between(one, middle), middle, *between(middle, other)]

        ends = self.fastest(), harmless.fastest()
        if at(ends[0])[1] <= at(ends[1])[1]:
            return [ends[0]]
        return [ends[0], *between(*ends), ends[1]]


def _source_side(nodes: int, edges: Sequence[tuple[int, int, float]]) -> list[bool]:
    """Return which nodes are on the source's side of the minimum cut that has the fewest there."""
    finite = sum(capacity for *_, capacity in edges if math.isfinite(capacity))
    unit = TOTAL / finite if finite else 1.0
    sums: dict[tuple[int, int], int] = {}
    for start, end, capacity in edges:
        whole = round(capacity * unit) if math.isfinite(capacity) else NEVER
        if start != end and whole:
            sums[start, end] = min(NEVER, sums.get((start, end), 0) + whole)
    if not sums:
        return [False] * nodes
    rows, columns = zip(*sums, strict=True)
    values = np.fromiter(sums.values(), dtype=np.int32)
    capacity = coo_matrix((values, (rows, columns)), shape=(nodes, nodes)).tocsr()
    flow = maximum_flow(capacity, INTEGER, FLOAT).flow
    left = capacity.astype(np.int64) - flow.astype(np.int64)
    left.data[left.data < 0] = 0
    left.eliminate_zeros()
    reached = breadth_first_order(left, INTEGER, return_predecessors=False)
    inside = np.zeros(nodes, dtype=bool)
    inside[reached] = True
    return [bool(side) for side in inside]
