"""Train a model once per data set and seed; all recipes start from it."""


rule train:
    input:
        code=code("train"),
        images="results/{data}/prepare/images.npy",
        labels="results/{data}/prepare/labels.npy",
        split="results/{data}/prepare/split.csv",
        card="results/{data}/prepare/card.json",
    output:
        model="results/{data}/{model}/s{seed}/train/model.pt",
        history="results/{data}/{model}/s{seed}/train/history.csv",
        config="results/{data}/{model}/s{seed}/train/config.yaml",
        metrics="results/{data}/{model}/s{seed}/train/metrics.json",
    log:
        "logs/{data}/{model}/s{seed}/train.log",
    benchmark:
        "logs/{data}/{model}/s{seed}/train.benchmark.tsv"
    conda:
        "../../envs/full.yaml"
    threads: 1
    resources:
        mem_mb=6000,
        runtime="24h",
    params:
        cfg=train_slice,
    message:
        "train {wildcards.model} on {wildcards.data}, seed {wildcards.seed}"
    script:
        "../scripts/train.py"
