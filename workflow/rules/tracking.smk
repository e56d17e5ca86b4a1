"""MLflow: one process delivers the entries of all stages while the workflow runs."""


onstart:
    PIPELINE.start()


onsuccess:
    PIPELINE.finish(True)


onerror:
    PIPELINE.finish(False)


localrules:
    tracking_sync,


rule tracking_sync:
    log:
        SYNC_LOG,
    conda:
        "../../envs/full.yaml"
    params:
        command=PIPELINE.sync_command,
    message:
        "deliver the tracking entries that are left in the outbox"
    shell:
        "{params.command} > {log} 2>&1"
