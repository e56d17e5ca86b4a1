"""Write the ONNX file that ships, and check it against what it was made from: a PyTorch program, or a finished file."""


rule export:
    input:
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
    wildcard_constraints:
        recipe=PIPELINE.recipes(finished=False),
    conda:
        "../../envs/full.yaml"
    threads: 1
    resources:
        mem_mb=6000,
        runtime="1h",
    params:
        code=PIPELINE.code("export"),
        cfg=PIPELINE.export_slice,
    message:
        "export {wildcards.model} {wildcards.recipe} ({wildcards.data}, seed {wildcards.seed})"
    script:
        "../scripts/export.py"


rule adopt:
    input:
        file=PIPELINE.finished_file,
        card=PIPELINE.card,
        prepared=PIPELINE.prepared,
    output:
        recipe=Compress.record,
        model=Export.onnx,
        parity=Export.parity,
        config=Export.config,
        metrics=Export.metrics,
    log:
        Export.log,
    wildcard_constraints:
        recipe=PIPELINE.recipes(finished=True),
    conda:
        "../../envs/full.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime="1h",
    params:
        code=PIPELINE.code("adopt"),
        cfg=PIPELINE.adopt_slice,
    message:
        "take {wildcards.recipe} of {wildcards.model} as it is ({wildcards.data}, seed {wildcards.seed})"
    script:
        "../scripts/adopt.py"


rule port:
    input:
        program=Compress.program,
        recipe=Compress.record,
        reference=Export.onnx,
        card=PIPELINE.card,
        prepared=PIPELINE.prepared,
    output:
        record=Port.record,
        files=directory(Port.files),
        config=Port.config,
        metrics=Port.metrics,
    log:
        Port.log,
    conda:
        "../../envs/full.yaml"
    threads: 1
    resources:
        mem_mb=6000,
        runtime="1h",
    params:
        code=PIPELINE.code("port"),
        cfg=PIPELINE.port_slice,
    message:
        "write {wildcards.model} {wildcards.recipe} for {wildcards.runtime} ({wildcards.data}, seed {wildcards.seed})"
    script:
        "../scripts/port.py"
