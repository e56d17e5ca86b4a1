"""Latency against input size: untrained networks, exported and profiled at each size."""


rule scaling:
    output:
        build=Scaling.build,
        export=directory(Scaling.export),
        config=Scaling.config,
        metrics=Scaling.metrics,
    log:
        Scaling.log,
    conda:
        "../../envs/full.yaml"
    threads: 1
    resources:
        mem_mb=6000,
        runtime="1h",
    params:
        code=PIPELINE.code("scaling"),
        cfg=PIPELINE.scaling_slice,
    message:
        "export {wildcards.model}, untrained, at {wildcards.size} pixels"
    script:
        "../scripts/scaling.py"


rule scaling_profile:
    input:
        build=Scaling.build,
        export=Scaling.export,
        ceilings=Ceilings.record,
    output:
        profile=ScalingProfile.record,
        config=ScalingProfile.config,
        metrics=ScalingProfile.metrics,
    log:
        ScalingProfile.log,
    conda:
        "../../envs/runtime.yaml"
    threads: MACHINE
    resources:
        mem_mb=4000,
        runtime="1h",
    params:
        code=PIPELINE.code("scaling_profile"),
        cfg=PIPELINE.scaling_profile_slice,
    message:
        "profile {wildcards.model}, untrained, at {wildcards.size} pixels on {wildcards.device}"
    script:
        "../scripts/scaling_profile.py"
