"""Measure the shipped file on a device; nothing else may run meanwhile."""


rule profile:
    input:
        model=PIPELINE.on_device,
        reference=Export.onnx,
        ceilings=Ceilings.record,
    output:
        profile=Profile.record,
        config=Profile.config,
        metrics=Profile.metrics,
    log:
        Profile.log,
    conda:
        "../../envs/runtime.yaml"
    threads: MACHINE
    resources:
        mem_mb=4000,
        runtime="1h",
    params:
        code=PIPELINE.code("profile"),
        cfg=PIPELINE.profile_slice,
    message:
        "profile {wildcards.model} {wildcards.recipe} on {wildcards.device} ({wildcards.data}, seed {wildcards.seed})"
    script:
        "../scripts/profile.py"


rule interleave:
    input:
        models=PIPELINE.models_in_turns,
    output:
        comparison=Interleave.record,
        config=Interleave.config,
        metrics=Interleave.metrics,
    log:
        Interleave.log,
    conda:
        "../../envs/runtime.yaml"
    threads: MACHINE
    resources:
        mem_mb=4000,
        runtime="1h",
    params:
        code=PIPELINE.code("interleave"),
        cfg=PIPELINE.interleave_slice,
    message:
        "time candidates of sweep {wildcards.sweep} in turns on {wildcards.device}"
    script:
        "../scripts/interleave.py"
