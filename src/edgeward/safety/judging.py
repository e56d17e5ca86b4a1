"""One endpoint judged, on all test cases or on a subgroup of them."""

from __future__ import annotations

from edgeward.records.base import Interval
from edgeward.records.safety import EndpointRow
from edgeward.safety.config import StudyConfig
from edgeward.statistics import folds, paired
from edgeward.statistics.noninferiority import Endpoint, cases_above, judged, scaled_cases
from edgeward.tasks.assessment import Arm, Key, Resampled, Share


def judged_on(
    endpoint: Endpoint,
    key: Key,
    arms: tuple[Arm, Arm],
    three: tuple[Interval, Interval, Interval],
    cfg: StudyConfig,
) -> EndpointRow:
    """Judge an endpoint, with the cases that would be needed.

    Parameters
    ----------
    key : its metric. arms : reference and compressed model.
    three : what the metric is of the reference, of the compressed model, and their difference.
    """
    reference, compressed, difference = three
    basis, other, level = arms[0].basis(key), arms[1].basis(key), cfg.confidence_level
    needed: int | None = None
    if endpoint.hopeless:
        pass
    elif endpoint.floor is not None:
        needed = cases_above(compressed, endpoint.floor, level, cfg.power)
    elif isinstance(basis, Share) and isinstance(other, Share):
        row, rate = basis.against(other, level), basis.discordance(other)
        needed = paired.cases_needed(row, rate, endpoint.margin, level, cfg.power)
    else:
        needed = scaled_cases(difference, endpoint.margin, endpoint.n, level, cfg.power)
    spread = folds.reach(difference, level)
    if endpoint.floor is None and spread and spread >= endpoint.margin:
        needed = None  # trainings differ by more than any number of cases could tell
    return judged(
        endpoint,
        reference=reference,
        compressed=compressed,
        difference=difference,
        cases_needed=needed,
        fewest_groups=basis.groups if isinstance(basis, Resampled) else None,
    )
