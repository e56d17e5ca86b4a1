"""Latency against input size: untrained networks, exported and profiled at each size."""


rule scaling:
    input:
        code=code("scaling"),
    output:
        build="results/scaling/{model}/{size}/build.json",
        config="results/scaling/{model}/{size}/config.yaml",
        metrics="results/scaling/{model}/{size}/metrics.json",
    log:
        "logs/scaling/{model}/{size}.log",
    benchmark:
        "logs/scaling/{model}/{size}.benchmark.tsv"
    conda:
        "../../envs/full.yaml"
    threads: 1
    resources:
        mem_mb=6000,
        runtime="1h",
    params:
        cfg=scaling_slice,
    message:
        "export {wildcards.model}, untrained, at {wildcards.size} pixels"
    script:
        "../scripts/scaling.py"


rule scaling_profile:
    input:
        code=code("scaling_profile"),
        build="results/scaling/{model}/{size}/build.json",
        ceilings="results/devices/{device}.json",
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
