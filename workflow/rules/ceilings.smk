"""Measure the best that a device can do, once for all models; nothing else may run meanwhile."""


rule ceilings:
    output:
        ceilings=Ceilings.record,
        config=Ceilings.config,
        metrics=Ceilings.metrics,
    log:
        Ceilings.log,
    conda:
        "../../envs/runtime.yaml"
    threads: MACHINE
    resources:
        mem_mb=2000,
        runtime="30m",
    params:
        code=PIPELINE.code("ceilings"),
        cfg=PIPELINE.ceilings_slice,
    message:
        "ceilings of {wildcards.device}"
    script:
        "../scripts/ceilings.py"
