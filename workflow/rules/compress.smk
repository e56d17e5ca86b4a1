"""Apply a recipe to a trained model."""


rule compress:
    input:
        model=Train.checkpoint,
        teachers=PIPELINE.teachers,
        card=PIPELINE.card,
        prepared=PIPELINE.prepared,
    output:
        program=Compress.program,
        recipe=Compress.record,
        config=Compress.config,
        metrics=Compress.metrics,
    log:
        Compress.log,
    wildcard_constraints:
        recipe=PIPELINE.recipes(finished=False, placed=False),
    conda:
        "../../envs/full.yaml"
    threads: 1
    resources:
        mem_mb=6000,
        runtime="12h",
    params:
        code=PIPELINE.code("compress"),
        cfg=PIPELINE.compress_slice,
    message:
        "compress {wildcards.model} by {wildcards.recipe} ({wildcards.data}, seed {wildcards.seed})"
    script:
        "../scripts/compress.py"


rule compress_for_device:
    input:
        model=Train.checkpoint,
        teachers=PIPELINE.teachers,
        card=PIPELINE.card,
        prepared=PIPELINE.prepared,
    output:
        program=Compress.program,
        recipe=Compress.record,
        config=Compress.config,
        metrics=Compress.metrics,
    log:
        Compress.log,
    wildcard_constraints:
        recipe=PIPELINE.recipes(finished=False, placed=True),
    conda:
        "../../envs/full.yaml"
    # It times operators and whole programs: nothing else may run meanwhile.
    threads: MACHINE
    resources:
        mem_mb=6000,
        runtime="12h",
    params:
        code=PIPELINE.code("compress_for_device"),
        cfg=PIPELINE.compress_slice,
    message:
        "compress {wildcards.model} by {wildcards.recipe}, placed by times ({wildcards.data}, seed {wildcards.seed})"
    script:
        "../scripts/compress_for_device.py"
