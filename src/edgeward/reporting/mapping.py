"""Where items of frameworks find evidence in a checklist. A mapping, not compliance.

Items are named as coarsely as is needed to be sure of them: sections of the FDA's guidance, articles and the points of Annex IV
of Regulation (EU) 2024/1689, clauses of IEC 62304:2006+A1:2015, item numbers of TRIPOD+AI (BMJ 2024;385:e078378), and sections of
CLAIM, whose update of 2024 numbers its items otherwise than the edition of 2020 does.
"""

from __future__ import annotations

from typing import Literal

from edgeward.records.checklist import Checklist, MappedItem

PCCP = "FDA PCCP"
AI_ACT = "EU AI Act"
IEC = "IEC 62304"
TRIPOD = "TRIPOD+AI"
CLAIM = "CLAIM 2024"
FRAMEWORKS = {
    PCCP: "FDA, Predetermined Change Control Plan for AI-enabled device software functions, final guidance of December 2024",
    AI_ACT: "Regulation (EU) 2024/1689",
    IEC: "IEC 62304:2006+A1:2015, medical device software, life cycle processes",
    TRIPOD: "TRIPOD+AI, BMJ 2024;385:e078378",
    CLAIM: "Checklist for Artificial Intelligence in Medical Imaging, update of 2024, by section",
}
State = Literal["given", "in part", "not given"]


def mapped(content: Checklist) -> list[MappedItem]:
    """Return the items, framework by framework, each with what a checklist gives for it."""
    judged = content.verdict.verdict != "reference"
    use: State = "in part" if content.intended_use else "not given"
    used = "as the sweep states it" if content.intended_use else "not stated"
    looked = sorted({row.column for row in content.verdict.strata})
    groups: State = "in part" if looked else "not given"
    grouped = (
        f"both models in subgroups: {', '.join(looked)}" if looked else "no subgroup looked at"
    )
    corrupted = sorted({row.corruption for row in content.verdict.corruptions})
    robust = f"; {len(corrupted)} kinds of corrupted images" if corrupted else ""
    shown: State = "in part" if judged else "not given"
    clean = "clean" if content.provenance.library and not content.provenance.library.dirty else "not clean, or unknown"  # fmt: skip
    measured = any(d.settings for d in content.deployment)
    device: State = "in part" if measured else "not given"

    def item(framework: str, name: str, about: str, state: State, evidence: str) -> MappedItem:
        return MappedItem(
            framework=framework, item=name, about=about, state=state, evidence=evidence
        )

    return [
        item(PCCP, "Description of Modifications", "what changes", shown,
             "recipe and steps against the reference" if judged else "nothing is changed: this is the reference"),
        item(PCCP, "Modification Protocol: data management", "data for the change", "in part",
             "splits by group, hashes, leakage audit; no plan for new data"),
        item(PCCP, "Modification Protocol: re-training", "how it is trained", "in part", "recipe, seeds, hashes of the configuration"),
        item(PCCP, "Modification Protocol: performance evaluation", "tests and acceptance criteria", shown,
             "endpoints with margins, paired on the same cases" if judged else "not judged"),
        item(PCCP, "Modification Protocol: update procedures", "release and communication", "not given", "for people"),
        item(PCCP, "Impact Assessment", "benefits and risks of the change", shown,
             "what else was lost, size and speed; no weighing of benefit and risk"),
        item(AI_ACT, "Art. 9", "risk management system", "not given", "margins and critical classes are an input to it"),
        item(AI_ACT, "Art. 10", "data and data governance", "in part", "source, licence, splits, counts, leakage audit; not how labels arose"),
        item(AI_ACT, "Art. 12", "record-keeping", "not given", "logs of the system in use are for the product"),
        item(AI_ACT, "Art. 13", "information for deployers", "in part", "accuracy with intervals, limits"),
        item(AI_ACT, "Art. 14", "human oversight", "not given", "for people"),
        item(AI_ACT, "Art. 15", "accuracy, robustness, cybersecurity", "in part", f"accuracy with intervals{robust}; nothing on cybersecurity"),
        item(AI_ACT, "Art. 72", "post-market monitoring", "not given", "for people"),
        item(AI_ACT, "Annex IV(1)", "general description, intended purpose", use, f"intended use {used}; version, hardware measured"),
        item(AI_ACT, "Annex IV(2)", "development, validation and testing", "in part", "recipe, data, test set, endpoints; not the design rationale"),
        item(AI_ACT, "Annex IV(3)", "functioning and limitations", "in part", "performance, by class and subgroup where looked at; limits"),
        item(AI_ACT, "Annex IV(4)", "appropriateness of metrics", "in part", "what each metric means; why it suits the use is for people"),
        item(IEC, "5.7", "software system testing", "in part", "the shipped file on the test split, parity with the program it was made from"),
        item(IEC, "5.8", "software release", "in part", "hash of the shipped file, open items; release is for people"),
        item(IEC, "7", "software risk management", "not given", "for people"),
        item(IEC, "8.1", "configuration identification", "in part",
             f"commit ({clean}), lock, {len(content.provenance.packages)} packages with versions"),
        item(TRIPOD, "3b", "target population, purpose, users", use, f"intended use {used}"),
        item(TRIPOD, "5a", "sources of data", "in part", "source and licence; representativeness is for people"),
        item(TRIPOD, "7", "data preparation", "in part", "checks of files and leaks; hashes of the configuration"),
        item(TRIPOD, "10", "sample size", shown, "cases and groups; cases needed where a result is open"),
        item(TRIPOD, "12a", "how data were used", "in part", "splits by group, calibration from train only"),
        item(TRIPOD, "12e", "measures of performance", "in part", "discrimination, decisions, calibration; the rationale is in the docs"),
        item(TRIPOD, "14", "fairness", groups, grouped),
        item(TRIPOD, "18f", "code sharing", "in part", "commit and versions; availability is for people"),
        item(TRIPOD, "21", "cases in each analysis", "given", "cases and groups of every split"),
        item(TRIPOD, "23a", "performance with intervals, subgroups", "in part", f"intervals throughout; {grouped}"),
        item(TRIPOD, "26", "limitations", "in part", "what the files leave open, and questions to people"),
        item(CLAIM, "Methods: data", "sources, eligibility, preparation", "in part", "source, counts, hashes; eligibility is for people"),
        item(CLAIM, "Methods: data partitions", "how split, at which level", "given", "by group (lesion, patient), audited for leaks"),
        item(CLAIM, "Methods: model, training", "description, software, initialization", "in part", "recipe, versions, seeds, hashes of the configuration"),
        item(CLAIM, "Methods: evaluation", "metrics, uncertainty, robustness", "in part", f"intervals by clusters{robust}; no external test set"),
        item(CLAIM, "Results: model performance", "estimates with precision", "in part", "on the test split, with intervals; no external test set"),
        item(CLAIM, "Discussion", "limitations, use in practice", device, "limits; latency on the devices measured"),
    ]  # fmt: skip
