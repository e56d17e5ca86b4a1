"""Its models on the test cases: a decision per image, and shares of right ones."""

import numpy as np

from edgeward.statistics.noninferiority import Endpoint
from edgeward.tasks import assessment
from edgeward.tasks.assessment import Resampled, Share, keyed, mean_there

from .task import TASK


class Arm(assessment.Arm):
    """Decisions, int64 (n,)."""

    task = TASK

    def __init__(self, cases, cfg, decisions):
        self.cases, self.cfg, self.decisions = cases, cfg, decisions
        self.right = decisions == cases.labels
        self.onehot = np.arange(len(cases.classes))[:, None] == cases.labels
        once = self.replicates(np.ones((len(cases), 1)))
        self.estimates = {key: value[0] for key, value in once.items()}
        pairs = cases.labels * len(cases.classes) + decisions
        self.confusion = np.bincount(pairs, minlength=len(cases.classes) ** 2).reshape(
            len(cases.classes), -1
        )

    @classmethod
    def measure(cls, cases, cfg, data, predicted, shift):
        return cls(cases, cfg, np.array([logits.argmax() for _, logits in predicted("test")]))

    def write(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "decisions.npy", self.decisions)

    @classmethod
    def read(cls, cases, cfg, folder, safety):
        return cls(cases, cfg, np.load(folder / "decisions.npy"))

    def replicates(self, weights):
        with np.errstate(invalid="ignore"):
            recall = (self.onehot & self.right) @ weights / (self.onehot @ weights)
        whole = {
            "accuracy": self.right @ weights / weights.sum(axis=0),
            "balanced": mean_there(recall),
        }
        return keyed(whole, {"recall": recall}, self.cases.classes)

    def basis(self, key):
        if key.metric == "balanced":
            return Resampled(len(self.cases), self.cases.n_groups())
        where = np.ones(len(self.cases), dtype=bool)
        if key.subset is not None:
            where = self.has(self.cases.classes.index(key.subset))
        return Share(self.right, self.cases.labels, self.cases.groups, where, 0.0)

    def has(self, k):
        return self.onehot[k]

    def endpoints(self, found):
        n, groups = len(self.cases), self.cases.n_groups()
        return [Endpoint("accuracy", "accuracy", self.cfg.margin, "higher", n, groups)]

    def changed(self, other):
        return self.decisions != other.decisions
