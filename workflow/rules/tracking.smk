"""MLflow: one process delivers the entries of all stages while the workflow runs."""

from edgeward.pipeline.environment import headline

headline(PLAN.sweep.device[0])


onstart:
    SESSION.start()


onsuccess:
    conclude(True)


onerror:
    conclude(False)


localrules:
    tracking_sync,


rule tracking_sync:
    log:
        "logs/tracking_sync.log",
    conda:
        "../../envs/full.yaml"
    params:
        command=deliver_command(OUTBOX, "--wait"),
    message:
        "deliver the tracking entries that are left in the outbox"
    shell:
        "{params.command} > {log} 2>&1"
