"""Judge the shipped file on the test split, paired with the reference."""


rule assess:
    input:
        code=code("assess"),
        model="results/{data}/{model}/s{seed}/{recipe}/export/model.onnx",
        images="results/{data}/prepare/images.npy",
        labels="results/{data}/prepare/labels.npy",
        split="results/{data}/prepare/split.csv",
        card="results/{data}/prepare/card.json",
        reference=reference_logits,
    output:
        logits="results/{data}/{model}/s{seed}/{recipe}/assess/logits.npy",
        val_logits="results/{data}/{model}/s{seed}/{recipe}/assess/val_logits.npy",
        safety="results/{data}/{model}/s{seed}/{recipe}/assess/safety.json",
        verdict="results/{data}/{model}/s{seed}/{recipe}/assess/verdict.json",
        config="results/{data}/{model}/s{seed}/{recipe}/assess/config.yaml",
        metrics="results/{data}/{model}/s{seed}/{recipe}/assess/metrics.json",
    log:
        "logs/{data}/{model}/s{seed}/{recipe}/assess.log",
    benchmark:
        "logs/{data}/{model}/s{seed}/{recipe}/assess.benchmark.tsv"
    conda:
        "../../envs/runtime.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime="2h",
    params:
        cfg=assess_slice,
    message:
        "assess {wildcards.model} {wildcards.recipe} ({wildcards.data}, seed {wildcards.seed})"
    script:
        "../scripts/assess.py"
