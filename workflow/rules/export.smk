"""Write the ONNX file that ships, and check it against the PyTorch program."""


rule export:
    input:
        code=PIPELINE.code("export"),
        program=Compress.program,
        recipe=Compress.record,
        card=PIPELINE.card,
        prepared=PIPELINE.prepared,
    output:
        model=Export.onnx,
        parity=Export.parity,
        config=Export.config,
        metrics=Export.metrics,
    log:
        Export.log,
    benchmark:
        Export.benchmark
    conda:
        "../../envs/full.yaml"
    threads: 1
    resources:
        mem_mb=6000,
        runtime="1h",
    params:
        cfg=PIPELINE.export_slice,
    message:
        "export {wildcards.model} {wildcards.recipe} ({wildcards.data}, seed {wildcards.seed})"
    script:
        "../scripts/export.py"
