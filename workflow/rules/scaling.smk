"""Latency against input size: untrained networks, exported once and profiled at each size."""


rule scaling:
    input:
        code=code("scaling"),
    output:
        builds=expand(
            "results/scaling/{{model}}/{size}/build.json", size=PLAN.sweep.sizes
        ),
        config="results/scaling/{model}/config.yaml",
        metrics="results/scaling/{model}/metrics.json",
    log:
        "logs/scaling/{model}.log",
    benchmark:
        "logs/scaling/{model}.benchmark.tsv"
    conda:
        "../../envs/full.yaml"
    threads: 1
    resources:
        mem_mb=6000,
        runtime="2h",
    params:
        cfg=scaling_slice,
    message:
        "export {wildcards.model}, untrained, at several sizes"
    script:
        "../scripts/scaling.py"


rule scaling_profile:
    input:
        code=code("scaling_profile"),
        build="results/scaling/{model}/{size}/build.json",
    output:
        profile="results/scaling/{model}/{size}/{device}.json",
        config="results/scaling/{model}/{size}/{device}.config.yaml",
        metrics="results/scaling/{model}/{size}/{device}.metrics.json",
    log:
        "logs/scaling/{model}/{size}-{device}.log",
    benchmark:
        "logs/scaling/{model}/{size}-{device}.benchmark.tsv"
    conda:
        "../../envs/runtime.yaml"
    threads: workflow.cores
    resources:
        mem_mb=4000,
        runtime="1h",
    params:
        cfg=scaling_profile_slice,
    message:
        "profile {wildcards.model}, untrained, at {wildcards.size} pixels on {wildcards.device}"
    script:
        "../scripts/scaling_profile.py"
