"""Turn a data source into arrays, a split, a calibration set and the card of facts."""


rule prepare:
    input:
        code=code("prepare"),
    output:
        images="results/{data}/prepare/images.npy",
        labels="results/{data}/prepare/labels.npy",
        split="results/{data}/prepare/split.csv",
        calibration="results/{data}/prepare/calibration.csv",
        card=report(
            "results/{data}/prepare/card.json",
            caption="../report/card.rst",
            category="Data",
            labels={"data": "{data}", "what": "card"},
        ),
        montage=report(
            "results/{data}/prepare/montage.png",
            caption="../report/montage.rst",
            category="Data",
            labels={"data": "{data}", "what": "pictures"},
        ),
        config="results/{data}/prepare/config.yaml",
        metrics="results/{data}/prepare/metrics.json",
    log:
        "logs/{data}/prepare.log",
    benchmark:
        "logs/{data}/prepare.benchmark.tsv"
    conda:
        "../../envs/full.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="2h",
    params:
        cfg=prepare_slice,
    message:
        "prepare {wildcards.data}"
    script:
        "../scripts/prepare.py"
