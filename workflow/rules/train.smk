"""Train a model once per data set and seed; all recipes start from it."""


rule train:
    input:
        weights=PIPELINE.weights,
        card=PIPELINE.card,
        prepared=PIPELINE.prepared,
    output:
        model=Train.checkpoint,
        history=Train.history,
        config=Train.config,
        metrics=Train.metrics,
    log:
        Train.log,
    # First, so that the longest jobs do not come last; whatever starts from them can.
    priority: 1
    conda:
        "../../envs/full.yaml"
    threads: 1
    resources:
        mem_mb=6000,
        runtime="24h",
    params:
        code=PIPELINE.code("train"),
        cfg=PIPELINE.train_slice,
    message:
        "train {wildcards.model} on {wildcards.data}, seed {wildcards.seed}"
    script:
        "../scripts/train.py"
