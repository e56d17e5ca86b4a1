"""What surrounds a run: one process delivers the entries of all stages to MLflow, another has imported what jobs need."""


onstart:
    PIPELINE.start(workflow)
    # Snakemake's limit of jobs a second, which is for clusters, looks at all ready jobs again every second, once more for every job
    # that has finished (9.27): minutes of processor time in a long sweep. Here cores are the limit.
    if workflow.resource_settings.cores:
        workflow.scheduler.job_rate_limiter = None


onsuccess:
    PIPELINE.finish(True, workflow)


onerror:
    PIPELINE.finish(False, workflow)


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
