"""Judge model.onnx on the test split by what a device decides."""

from pathlib import Path

from edgeward.pipeline.job import Job


def main(job: Job) -> dict[str, float]:
    from edgeward.profiling.config import DeviceConfig
    from edgeward.profiling.deciding import DeviceSession
    from edgeward.profiling.transport import open_device
    from edgeward.safety.config import SafetyGroup
    from edgeward.safety.stage import Elsewhere, run

    job.loaded()
    cfg = DeviceConfig.model_validate(job.cfg["device"])
    model, reference = Path(job.input.model), job.paths("reference")
    with open_device(cfg) as device:
        session = DeviceSession(cfg, device, model)
        return run(
            SafetyGroup.model_validate(job.cfg["safety"]),
            model=model,
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


if "snakemake" in globals():
    Job.of("decide", snakemake).execute(main)  # noqa: F821
