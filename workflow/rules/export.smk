"""Write the ONNX file that ships, and check it against the PyTorch program."""


rule export:
    input:
        code=code("export"),
        program="results/{data}/{model}/s{seed}/{recipe}/compress/model.pt2",
        recipe="results/{data}/{model}/s{seed}/{recipe}/compress/recipe.json",
        images="results/{data}/prepare/images.npy",
        card="results/{data}/prepare/card.json",
    output:
        model="results/{data}/{model}/s{seed}/{recipe}/export/model.onnx",
        parity="results/{data}/{model}/s{seed}/{recipe}/export/parity.json",
        config="results/{data}/{model}/s{seed}/{recipe}/export/config.yaml",
        metrics="results/{data}/{model}/s{seed}/{recipe}/export/metrics.json",
    log:
        "logs/{data}/{model}/s{seed}/{recipe}/export.log",
    benchmark:
        "logs/{data}/{model}/s{seed}/{recipe}/export.benchmark.tsv"
    conda:
        "../../envs/full.yaml"
    threads: 1
    resources:
        mem_mb=6000,
        runtime="1h",
    params:
        cfg=export_slice,
    message:
        "export {wildcards.model} {wildcards.recipe} ({wildcards.data}, seed {wildcards.seed})"
    script:
        "../scripts/export.py"
