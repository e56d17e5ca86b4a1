"""Judge the shipped file on the test split, paired with the reference."""


rule assess:
    input:
        model=Export.onnx,
        card=PIPELINE.card,
        prepared=PIPELINE.prepared,
        reference=PIPELINE.reference,
    output:
        safety=Assess.safety,
        verdict=Assess.verdict,
        cases=directory(Assess.cases),
        config=Assess.config,
        metrics=Assess.metrics,
    log:
        Assess.log,
    conda:
        "../../envs/runtime.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime="4h",
    params:
        code=PIPELINE.code("assess"),
        cfg=PIPELINE.assess_slice,
    message:
        "assess {wildcards.model} {wildcards.recipe} ({wildcards.data}, seed {wildcards.seed})"
    script:
        "../scripts/assess.py"


rule decide:
    input:
        model=PIPELINE.on_device,
        shipped=Export.onnx,
        card=PIPELINE.card,
        prepared=PIPELINE.prepared,
        host=Assess.safety,
        host_cases=Assess.cases,
        reference=PIPELINE.decided_reference,
    output:
        safety=Decide.safety,
        verdict=Decide.verdict,
        cases=directory(Decide.cases),
        config=Decide.config,
        metrics=Decide.metrics,
    log:
        Decide.log,
    conda:
        "../../envs/runtime.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime="8h",
    params:
        code=PIPELINE.code("decide"),
        cfg=PIPELINE.decide_slice,
    message:
        "decide {wildcards.model} {wildcards.recipe} on {wildcards.device} ({wildcards.data}, seed {wildcards.seed})"
    script:
        "../scripts/decide.py"


rule pool:
    input:
        card=PIPELINE.card,
        prepared=PIPELINE.prepared,
        folds=PIPELINE.folds,
        dealt=PIPELINE.dealt,
        assessed=PIPELINE.assessed,
    output:
        pooled=Pool.record,
        config=Pool.config,
        metrics=Pool.metrics,
    log:
        Pool.log,
    conda:
        "../../envs/runtime.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime="2h",
    params:
        code=PIPELINE.code("pool"),
        cfg=PIPELINE.pool_slice,
    message:
        "pool the seeds of sweep {wildcards.sweep} on {wildcards.data}"
    script:
        "../scripts/pool.py"
