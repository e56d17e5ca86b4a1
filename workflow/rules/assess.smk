"""Judge the shipped file on the test split, paired with the reference."""


rule assess:
    input:
        code=code("assess"),
        model="results/{data}/{model}/s{seed}/{recipe}/export/model.onnx",
        images="results/{data}/prepare/images.npy",
        labels="results/{data}/prepare/labels.npy",
        split="results/{data}/prepare/split.csv",
        card="results/{data}/prepare/card.json",
        reference=reference_outputs,
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
    wildcard_constraints:
        data=data_for("multiclass"),
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


rule assess_segmentation:
    input:
        code=code("assess_segmentation"),
        model="results/{data}/{model}/s{seed}/{recipe}/export/model.onnx",
        images="results/{data}/prepare/images.npy",
        labels="results/{data}/prepare/labels.npy",
        split="results/{data}/prepare/split.csv",
        card="results/{data}/prepare/card.json",
        reference=reference_outputs,
    output:
        cases="results/{data}/{model}/s{seed}/{recipe}/assess/cases.csv",
        lesions="results/{data}/{model}/s{seed}/{recipe}/assess/lesions.csv",
        reliability="results/{data}/{model}/s{seed}/{recipe}/assess/reliability.csv",
        predictions="results/{data}/{model}/s{seed}/{recipe}/assess/predictions.npz",
        safety="results/{data}/{model}/s{seed}/{recipe}/assess/safety.json",
        verdict="results/{data}/{model}/s{seed}/{recipe}/assess/verdict.json",
        config="results/{data}/{model}/s{seed}/{recipe}/assess/config.yaml",
        metrics="results/{data}/{model}/s{seed}/{recipe}/assess/metrics.json",
    log:
        "logs/{data}/{model}/s{seed}/{recipe}/assess.log",
    benchmark:
        "logs/{data}/{model}/s{seed}/{recipe}/assess.benchmark.tsv"
    wildcard_constraints:
        data=data_for("segmentation"),
    conda:
        "../../envs/runtime.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime="4h",
    params:
        cfg=assess_slice,
    message:
        "assess {wildcards.model} {wildcards.recipe} ({wildcards.data}, seed {wildcards.seed})"
    script:
        "../scripts/assess_segmentation.py"


rule pool:
    input:
        code=code("pool"),
        card="results/{data}/prepare/card.json",
        evidence=pool_inputs,
    output:
        pooled="results/report/{sweep}/pooled/{data}.json",
        config="results/report/{sweep}/pooled/{data}.config.yaml",
        metrics="results/report/{sweep}/pooled/{data}.metrics.json",
    log:
        "logs/report/{sweep}/pool-{data}.log",
    benchmark:
        "logs/report/{sweep}/pool-{data}.benchmark.tsv"
    conda:
        "../../envs/runtime.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime="2h",
    params:
        cfg=pool_slice,
    message:
        "pool the seeds of sweep {wildcards.sweep} on {wildcards.data}"
    script:
        "../scripts/pool.py"
