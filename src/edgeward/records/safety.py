"""``safety.json``, ``verdict.json`` and the pooled seeds: what the stage ``assess`` found of a candidate."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, JsonValue

from edgeward.records.base import File, Interval, Record, TaskName

Outcome = Literal["pass", "fail", "inconclusive"]
VerdictWord = Literal["reference", "pass", "fail", "inconclusive"]


class Reliability(Record):
    """A reliability diagram: a value per bin of confidence."""

    confidence: list[float] = Field(description="Mean confidence of the bin.")
    accuracy: list[float | None] = Field(description="Share of right decisions.")
    low: list[float | None]
    high: list[float | None]
    count: list[int]


class Curve(Record):
    """The ROC and the precision-recall curve of a class against the rest, point by point."""

    fpr: list[float] = Field(description="False positive rate, 1 - specificity.")
    tpr: list[float] = Field(description="True positive rate, sensitivity, recall.")
    precision: list[float]


class ClassRow(Record):
    """What was found of one class."""

    name: str = Field(alias="class")
    n: int = Field(description="Test cases that have it.")
    n_groups: int
    rare: bool
    critical: bool = False
    counts: dict[str, int] = Field(
        default_factory=dict, description="What else is counted, e.g. lesions."
    )
    metrics: dict[str, Interval]


class OnDevice(Record):
    """Where a model decided, if not on the host, and how often it decided as there."""

    device: str
    engine: str = Field(description="Name and version.")
    emulated: bool = Field(description="Whether an emulator executed the instructions.")
    host_engine: str
    agreement: Interval = Field(description="Share of the cases that device and host decide alike.")


class Safety(File):
    """A model on the test split, without comparison."""

    FORMAT: ClassVar[str] = "edgeward-safety/2"
    STAGE: ClassVar[str] = "assess"

    task: TaskName
    n: dict[str, int] = Field(description="Cases of the splits, groups, and what the task counts.")
    classes: list[str]
    rare_classes: list[str]
    critical_classes: list[str] = Field(
        default_factory=list, description="In which a missed case harms the patient."
    )
    absent_classes: list[str] = Field(description="That no test case has.")
    confidence_level: float
    metrics: dict[str, Interval]
    per_class: list[ClassRow]
    reliability: dict[str, Reliability] = Field(description="Region (or all) -> diagram.")
    selective: dict[str, list[float]] = Field(
        default_factory=dict,
        description="Risk over coverage, if only the most confident cases are decided.",
    )
    curves: dict[str, Curve] = Field(default_factory=dict, description="Of each class.")
    confusion: list[list[int]] = Field(description="By true (rows) and decided label.")
    labels: list[str] = Field(description="Of the rows and columns of `confusion`.")
    facts: dict[str, JsonValue] = Field(
        default_factory=dict, description="What the task fitted, e.g. temperature."
    )
    logit_shift: list[float]
    test_sha256: str = Field(description="Of what makes the test set.")
    measured: dict[str, JsonValue] = Field(
        default_factory=dict, description="The settings that the per-case outputs depend on."
    )
    on: OnDevice | None = Field(default=None, description="Where it decided, if not on the host.")

    @classmethod
    def upgrade(cls, content: dict[str, Any]) -> dict[str, Any]:
        """Nest the flat first form, which named no schema, and no task where there was one only; name what is decided."""
        if "labels" not in content and "confusion" in content:
            background = ["background"] * (len(content["confusion"]) - len(content["classes"]))
            content = {**content, "labels": [*background, *content["classes"]]}
        if "schema" in content or "per_class" not in content:
            return content
        metrics, rest = _intervals(content)
        known = {name: rest.pop(name) for name in cls.model_fields if name in rest}
        regions = [name for name in (*known, *rest) if name.endswith("reliability")]
        if "task" not in known:
            rare = sum(row["n"] for row in content["per_class"] if row["rare"])
            known["n"] = {**content["n"], "rare": rare}
        return {
            "schema": cls.FORMAT,
            "task": "",
            "measured": {},
            **known,
            "metrics": metrics,
            "per_class": [_older_row(row) for row in content["per_class"]],
            "reliability": {
                name.removesuffix("reliability").rstrip("_") or "all": content[name]
                for name in regions
            },
            "facts": {name: value for name, value in rest.items() if name not in regions},
        }


def _intervals(content: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take the interval records out of a section of an older file."""
    found = {k: v for k, v in content.items() if isinstance(v, dict) and "estimate" in v}
    return found, {k: v for k, v in content.items() if k not in found}


def _older_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return what an older file says of a class in today's form."""
    metrics, rest = _intervals(row)
    known: dict[str, Any] = {
        k: rest.pop(k) for k in ("class", "n", "n_groups", "rare") if k in rest
    }
    renamed = {"recall" if k == "sensitivity" else k: v for k, v in metrics.items()}
    return {**known, "counts": rest, "metrics": renamed}


class EndpointRow(Record):
    """One endpoint, judged."""

    name: str
    metric: str
    class_name: str | None = Field(alias="class")
    margin: float
    floor: float | None = Field(
        default=None, description="Where an absolute value is asked for instead of a difference."
    )
    direction: Literal["higher", "lower"]
    reference: Interval
    compressed: Interval
    difference: Interval
    n: int
    n_groups: int
    outcome: Outcome
    surely_worse: bool = Field(
        default=False, description="Whether the difference excludes zero on the side of harm."
    )
    reason: str
    cases_needed: int | None


class ClassChange(Record):
    """What changed of one class; counted are what the task counts (images, lesions)."""

    name: str = Field(alias="class")
    n: int
    gained: int
    lost: int
    mcnemar_p: float | None
    mcnemar_p_holm: float | None
    difference: Interval


class Loss(Record):
    """A loss beyond chance that no endpoint looks at."""

    name: str
    metric: str
    subset: str = Field(description="A class, or a subgroup of the cases.")
    n: int
    reference: Interval
    compressed: Interval
    difference: Interval
    p_holm: float = Field(
        description="Of all subsets outside the endpoints, corrected by Holm's method."
    )


class Decision(Record):
    """Why a class is decided differently: by a moved threshold, or because it is told apart less well."""

    name: str = Field(alias="class")
    difference: Interval = Field(description="Of recall.")
    auc: Interval = Field(description="Difference of the AUC, one against the rest.")
    aligned: Interval = Field(
        description="Difference of recall if the compressed model called each class as often as the reference does on validation."
    )
    offset: float = Field(description="What that adds to the logit of the class.")
    cause: Literal["none", "threshold", "discrimination", "open"] = Field(
        description="none: recall is not shown to differ. threshold: AUC kept within its margin, and alignment gives back all that "
        "is not chance, or most. discrimination: AUC lost beyond chance, and not within its margin. open: neither is shown."
    )


class StratumRow(Record):
    """Both models on a subgroup of the test cases."""

    column: str
    value: str = Field(description="One value of the column, a band of numbers, or unknown.")
    n: int
    n_groups: int
    enough: bool = Field(description="Whether it has the groups that are asked for.")
    reference: dict[str, Interval]
    compressed: dict[str, Interval]
    differences: dict[str, Interval]


class Interaction(Record):
    """Whether a metric changes alike in all subgroups of a column: Cochran's Q."""

    column: str
    metric: str
    values: list[str] = Field(description="The subgroups that are large enough.")
    q: float
    freedom: int
    p: float
    p_holm: float | None = Field(default=None, description="Corrected over the columns.")


class CorruptionRow(Record):
    """Both models on corrupted copies of test images."""

    corruption: str
    severity: int
    metric: str
    n: int
    n_groups: int
    clean: Interval = Field(description="Difference on the same images as they are.")
    reference: Interval
    compressed: Interval
    difference: Interval
    beyond_clean: Interval = Field(description="How much more is lost than on these.")


class Bootstrap(Record):
    """How the resamples were drawn."""

    resamples: int
    seed: int
    unit: str
    strata: str
    groups: int
    confidence_level: float


class Verdict(File):
    """A compressed model against its reference on the same cases."""

    FORMAT: ClassVar[str] = "edgeward-verdict/2"
    STAGE: ClassVar[str] = "assess"

    reference: str = Field(description="Recipe of the reference.")
    verdict: VerdictWord
    reasons: list[str]
    churn: Interval | None = Field(description="Share of decisions that differ.")
    endpoints: list[EndpointRow]
    also_lost: list[Loss] = Field(
        default_factory=list, description="Beyond chance, outside the endpoints."
    )
    differences: dict[str, Interval] = Field(
        description="Compressed minus reference, of every metric; of a class: metric_class."
    )
    per_class: list[ClassChange]
    decisions: list[Decision] = Field(
        default_factory=list, description="Why classes are decided differently."
    )
    strata: list[StratumRow] = Field(default_factory=list)
    interactions: list[Interaction] = Field(default_factory=list)
    corruptions: list[CorruptionRow] = Field(default_factory=list)
    bootstrap: Bootstrap

    @classmethod
    def upgrade(cls, content: dict[str, Any]) -> dict[str, Any]:
        """Older files lack what was outside the endpoints; they called a fail what only straddles its margin, too."""
        if content.get("schema") == "edgeward-verdict/1":
            return {**content, "schema": cls.FORMAT}
        return cls.unversioned(content)


class RecipeOfModel(Record):
    """A model and its recipe."""

    model: str
    recipe: str


class PooledRow(RecipeOfModel):
    """Metrics of a recipe over seeds."""

    metrics: dict[str, Interval]


class PooledDifference(PooledRow):
    """Differences of a recipe to another one over seeds."""

    against: RecipeOfModel
    paired: bool = Field(description="Whether taken seed by seed.")


class RecipeVerdict(RecipeOfModel):
    """The verdict on a recipe over folds: on all cases, each decided by the model that has not seen it."""

    verdict: Verdict


class Pooled(File):
    """The seeds of a sweep on one data set, pooled."""

    FORMAT: ClassVar[str] = "edgeward-pooled/1"
    STAGE: ClassVar[str] = "pool"

    data: str
    seeds: list[int]
    confidence_level: float
    n: dict[str, int]
    rows: list[PooledRow]
    differences: list[PooledDifference]
    between: list[PooledDifference]
    verdicts: list[RecipeVerdict] = Field(
        default_factory=list,
        description="Of recipes, where the seeds are folds of a cross-validation.",
    )
    exemplars: list[dict[str, JsonValue]] = Field(
        description="Per compressed recipe, the images that compression changes."
    )

    @classmethod
    def upgrade(cls, content: dict[str, Any]) -> dict[str, Any]:
        """Older files name no schema and are the same otherwise."""
        return cls.unversioned(content)
