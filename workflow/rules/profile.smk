"""Measure the shipped file on a device; nothing else may run meanwhile."""


rule profile:
    input:
        code=code("profile"),
        model="results/{data}/{model}/s{seed}/{recipe}/export/model.onnx",
        ceilings="results/devices/{device}.json",
    output:
        profile="results/{data}/{model}/s{seed}/{recipe}/profile/{device}.json",
        config="results/{data}/{model}/s{seed}/{recipe}/profile/{device}.config.yaml",
        metrics="results/{data}/{model}/s{seed}/{recipe}/profile/{device}.metrics.json",
    log:
        "logs/{data}/{model}/s{seed}/{recipe}/profile-{device}.log",
    benchmark:
        "logs/{data}/{model}/s{seed}/{recipe}/profile-{device}.benchmark.tsv"
    conda:
        "../../envs/runtime.yaml"
    threads: workflow.cores
    resources:
        mem_mb=4000,
        runtime="1h",
    params:
        cfg=profile_slice,
    message:
        "profile {wildcards.model} {wildcards.recipe} on {wildcards.device} ({wildcards.data}, seed {wildcards.seed})"
    script:
        "../scripts/profile.py"


rule interleave:
    input:
        code=code("interleave"),
        models=interleaved_models,
    output:
        comparison="results/report/{sweep}/interleaved/{device}.json",
        config="results/report/{sweep}/interleaved/{device}.config.yaml",
        metrics="results/report/{sweep}/interleaved/{device}.metrics.json",
    log:
        "logs/report/{sweep}/interleave-{device}.log",
    benchmark:
        "logs/report/{sweep}/interleave-{device}.benchmark.tsv"
    conda:
        "../../envs/runtime.yaml"
    threads: workflow.cores
    resources:
        mem_mb=4000,
        runtime="1h",
    params:
        cfg=interleave_slice,
    message:
        "time candidates of sweep {wildcards.sweep} in turns on {wildcards.device}"
    script:
        "../scripts/interleave.py"
