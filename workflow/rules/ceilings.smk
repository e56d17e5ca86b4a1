"""Measure the best that a device can do, once for all models; nothing else may run meanwhile."""


rule ceilings:
    input:
        code=code("ceilings"),
    output:
        ceilings="results/devices/{device}.json",
        config="results/devices/{device}.config.yaml",
        metrics="results/devices/{device}.metrics.json",
    log:
        "logs/devices/{device}.log",
    benchmark:
        "logs/devices/{device}.benchmark.tsv"
    conda:
        "../../envs/runtime.yaml"
    threads: workflow.cores
    resources:
        mem_mb=2000,
        runtime="30m",
    params:
        cfg=ceilings_slice,
    message:
        "ceilings of {wildcards.device}"
    script:
        "../scripts/ceilings.py"
