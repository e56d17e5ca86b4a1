"""The deployment checklist of one candidate, after arXiv 2602.00910.

The paper asks for a deployment-first report: device and inference engine, precision and hardware
setup, median and tail latency with energy per inference, and safety as AUC, per-class sensitivity
and ECE before and after compression. It also criticises that operator fusion goes unreported. This
module gathers exactly that from a candidate's files and adds verdict, provenance, where frameworks find
their evidence, and what is left for people to sign. It quotes nothing of the paper's own table.
"""

from __future__ import annotations

from pathlib import Path

from edgeward.core.errors import UserError
from edgeward.core.io import digest, sha256
from edgeward.records.base import Interval
from edgeward.records.checklist import (
    CandidateProvenance,
    Change,
    Checklist,
    DecidedThere,
    Deployment,
    Identity,
    SignOff,
    Speedup,
)
from edgeward.records.port import Port
from edgeward.records.profile import NotMeasured, Profile
from edgeward.records.provenance import Provenance
from edgeward.reporting.load import Candidate
from edgeward.reporting.mapping import mapped
from edgeward.reporting.sweep import Sweep
from edgeward.runtimes.base import REFERENCE, runtime

BUILT = {
    "recipe", "steps", "precision", "backend", "scheme", "keep_float", "quantized_parameter_share",
}  # fmt: skip

QUESTIONS = (
    "Are the test images like those of the intended site: population, cameras, prevalence, image quality?",
    "Is the reference model itself good enough for the intended use, class by class?",
    "Were the margins chosen by those who answer for the consequences, before the results were seen?",
    "Is the measured device, with its power supply and its other load, the one that will be used?",
    "Do the licences of data, model and software allow the intended use?",
    "Which regulation applies, and who keeps watch over the model after it is installed?",
)


def _profiled(candidate: Candidate, device: str, profile: Profile) -> tuple[Path, str | None]:
    """Return which file a device takes, and the SHA-256 of it where it is another one than that which ships."""
    taker = runtime(profile.engine.name, f"config/profile/{device}.yaml").file_of
    if taker == REFERENCE:
        return candidate.paths.export.onnx, None
    record = candidate.paths.port(taker).record
    return record, Port.read(record).sha256


def checklist(
    candidate: Candidate, sweep: Sweep, *, name: str, intended_use: str, made: Provenance
) -> Checklist:
    """Return the checklist of a candidate.

    Parameters
    ----------
    name, intended_use : of the sweep; the use may be empty.
    made : from what, with what and when the report is written.

    Raises
    ------
    UserError
        If the profiled model is not the model that was exported.
    """
    onnx = candidate.paths.export.onnx
    found = sha256(onnx)
    for device, profile in candidate.profiles.items():
        file, own = _profiled(candidate, device, profile)
        if profile.model.sha256 != (own or found):
            raise UserError(
                f"{candidate.key}: {device} was profiled with a model of SHA-256 {profile.model.sha256}, but "
                f"{file} has {own or found}. Run profile again for this candidate."
            )
    roles = ("Clinical lead", "Engineering lead", "Quality / regulatory")
    content = Checklist(
        format=Checklist.FORMAT,
        after="arXiv:2602.00910",
        sweep=name,
        intended_use=intended_use.strip() or None,
        synthetic=candidate.synthetic,
        candidate=Identity(
            data=candidate.data,
            model=candidate.model,
            seed=candidate.seed,
            recipe=candidate.recipe,
            precision=candidate.built.precision,
        ),
        verdict=candidate.verdict,
        deployment=[
            _deployment(candidate, device, profile, sweep)
            for device, profile in candidate.profiles.items()
        ],
        decided=[
            DecidedThere(on=found.on, n=found.safety.n, verdict=found.verdict)
            for found in candidate.decided.values()
        ],
        safety=candidate.safety,
        before_after=_changes(candidate, sweep.reference(candidate)),
        provenance=_provenance(candidate, found, made),
        mapping=[],
        sign_off=SignOff(
            open_items=[*_open_items(candidate, sweep), *QUESTIONS],
            signatures=[{"role": r, "name": None, "date": None, "decision": None} for r in roles],
        ),
    )
    return content.model_copy(update={"mapping": mapped(content)})


def _deployment(candidate: Candidate, device: str, profile: Profile, sweep: Sweep) -> Deployment:
    gain = sweep.speed(candidate, device)
    return Deployment(
        device=device,
        host=profile.host,
        engine=profile.engine,
        engine_settings=profile.config,
        model=profile.model,
        int8_mac_share=profile.int8_mac_share,
        operators=profile.operators,
        energy=profile.energy,
        refused=profile.refused,
        speedup=gain and Speedup(**gain.factor.content(), in_turns=gain.in_turns, valid=gain.valid),
        settings=profile.settings,
    )


def _changes(candidate: Candidate, reference: Candidate | None) -> dict[str, Change]:
    """Return the calibration errors of the comparison, before and after compression."""
    judged = {e.metric: e.reference for e in candidate.verdict.endpoints}
    return {
        name: Change(
            before=reference.metric(name) if reference else judged.get(name, Interval()),
            after=candidate.metric(name),
            difference=candidate.difference(name),
        )
        for name in candidate.task.calibration
        if name in candidate.task.columns and not candidate.is_reference
    }


def _provenance(candidate: Candidate, model: str, made: Provenance) -> CandidateProvenance:
    built, card = candidate.built, candidate.card
    slices = candidate.paths.configs
    return CandidateProvenance(
        **made.content(),
        config_sha256={stage: sha256(path) for stage, path in slices.items() if path.is_file()},
        model_sha256=model,
        data_sha256=digest(card.hashes),
        versions=built.versions,
        recipe={key: value for key, value in built.content().items() if key in BUILT},
        calibration=built.calibration,
        data=card,
        seeds={
            "training": candidate.seed,
            "data": card.seed,
            "bootstrap": candidate.verdict.bootstrap.seed,
        },
        parity=candidate.parity,
    )


def _elsewhere(profile: Profile) -> bool:
    """Tell whether a device may decide otherwise than the host: it is another machine, or another engine computes."""
    reached = profile.config.get("transport", {}).get("kind", "host")
    return reached != "host" or profile.engine.name != REFERENCE


def _open_items(candidate: Candidate, sweep: Sweep) -> list[str]:
    """List what the candidate's own files leave open."""
    items = []
    if candidate.synthetic:
        items.append("The cases were drawn (SYNTHETIC): the result says nothing of patients.")
    if candidate.outcome == "fail":
        items.append("The verdict is fail: the model is shown to be worse than its reference.")
    if candidate.outcome == "inconclusive":
        items.append("The verdict is inconclusive: collect more cases, then assess again.")
    items += [f"The file may be taken otherwise than meant: {doubt}" for doubt in candidate.doubts]
    items += [
        f"The verdict is by what the host decides; {device} was not asked (decide_on)."
        for device, profile in candidate.profiles.items()
        if device not in candidate.decided and not candidate.is_reference and _elsewhere(profile)
    ]
    items += [
        f"By what {device} decides the verdict is {found.verdict.verdict}."
        for device, found in candidate.decided.items()
        if found.verdict.verdict not in ("pass", "reference")
    ]
    looked = sorted({row.column for row in candidate.verdict.strata})
    patients = (
        "Are there groups of patients (age, sex, skin type, site) for whom the result differs? "
    )
    items.append(
        patients
        + (
            f"The tool has looked at {', '.join(looked)} only."
            if looked
            else "The tool has not looked (data.strata)."
        )
    )
    items += [
        f"Lost beyond chance, outside the endpoints: {loss.name}; judge whether that matters."
        for loss in candidate.verdict.also_lost
    ]
    if sweep.reference(candidate) is None:
        items.append("The reference is not part of this sweep: speed and size have no counterpart.")
    items += [
        f"Measure again: the timing ({t.conditions}) is INVALID: {'; '.join(t.setting.reasons)}."
        for t in candidate.timings
        if not t.valid
    ]
    if not candidate.profiles:
        items.append("Not profiled on any device.")
    items += [
        f"The engine of {device} refuses the model: {reason}"
        for device, reason in candidate.refusals.items()
    ]
    items += [
        f"Energy per inference on {device} is not measured: {profile.energy.reason}."
        for device, profile in candidate.profiles.items()
        if isinstance(profile.energy, NotMeasured)
    ]
    if candidate.card.leakage.findings:
        items.append("The leakage audit of the data has findings: judge them.")
    return items
