"""Judge model.onnx on the test split by what a device decides."""

from pathlib import Path

from edgeward.pipeline.job import Job


def main(job: Job) -> dict[str, float]:
    from edgeward.profiling.config import DeviceConfig
    from edgeward.profiling.deciding import DeviceSession
    from edgeward.profiling.transport import Refused, open_device
    from edgeward.records.port import Undecided, refusal, taken
    from edgeward.safety.config import SafetyGroup
    from edgeward.safety.stage import Elsewhere, run

    job.loaded()
    cfg = DeviceConfig.model_validate(job.cfg["device"])
    reference = job.paths("reference")
    shipped = Path(job.input.shipped)
    file, refused = taken(job.paths("model"), shipped)
    refused = refused or (refusal(reference[0]) if reference else None)
    try:
        with open_device(cfg) as device:
            if refused:
                raise Refused(refused, refused)
            session = DeviceSession(cfg, device, file)
            return run(
                SafetyGroup.model_validate(job.cfg["safety"]),
                model=shipped,
                prepared=Path(job.input.card).parent,
                out=Path(job.output.safety).parent,
                reference=reference[0].parent if reference else None,
                threads=job.threads,
                elsewhere=Elsewhere(
                    device=cfg.name,
                    emulated=device.emulated,
                    session=session,
                    batch=session.batch,
                    host=Path(job.input.host).parent,
                ),
            )
    except Refused as error:
        for record in (job.output.safety, job.output.verdict):
            Undecided(reason=error.reason).write(Path(record))
        Path(job.output.cases).mkdir(parents=True, exist_ok=True)
        return {"refused": 1.0}


if "snakemake" in globals():
    Job.of("decide", snakemake).execute(main)  # noqa: F821
