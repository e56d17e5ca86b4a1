"""Apply a recipe to a trained model."""


rule compress:
    input:
        code=code("compress"),
        model="results/{data}/{model}/s{seed}/train/model.pt",
        teachers=teachers,
        images="results/{data}/prepare/images.npy",
        calibration="results/{data}/prepare/calibration.csv",
        card="results/{data}/prepare/card.json",
    output:
        program="results/{data}/{model}/s{seed}/{recipe}/compress/model.pt2",
        recipe="results/{data}/{model}/s{seed}/{recipe}/compress/recipe.json",
        config="results/{data}/{model}/s{seed}/{recipe}/compress/config.yaml",
        metrics="results/{data}/{model}/s{seed}/{recipe}/compress/metrics.json",
    log:
        "logs/{data}/{model}/s{seed}/{recipe}/compress.log",
    benchmark:
        "logs/{data}/{model}/s{seed}/{recipe}/compress.benchmark.tsv"
    conda:
        "../../envs/full.yaml"
    threads: 1
    resources:
        mem_mb=6000,
        runtime="12h",
    params:
        cfg=compress_slice,
    message:
        "compress {wildcards.model} by {wildcards.recipe} ({wildcards.data}, seed {wildcards.seed})"
    script:
        "../scripts/compress.py"
