"""Turn a data source into arrays, a split, a calibration set and the card of facts."""


rule prepare:
    output:
        images=Prepare.images,
        labels=Prepare.labels,
        split=Prepare.split,
        calibration=Prepare.calibration,
        card=report(
            Prepare.card,
            caption="../report/card.rst",
            category="Data",
            labels={"data": "{data}", "what": "card"},
        ),
        montage=report(
            Prepare.montage,
            caption="../report/montage.rst",
            category="Data",
            labels={"data": "{data}", "what": "pictures"},
        ),
        config=Prepare.config,
        metrics=Prepare.metrics,
    log:
        Prepare.log,
    wildcard_constraints:
        data=PIPELINE.data(masks=False, volumes=False),
    conda:
        "../../envs/full.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="2h",
    params:
        code=PIPELINE.code("prepare"),
        cfg=PIPELINE.prepare_slice,
    message:
        "prepare {wildcards.data}"
    script:
        "../scripts/prepare.py"


use rule prepare as prepare_masks with:
    output:
        **rules.prepare.output,
        masks=Prepare.masks,
    wildcard_constraints:
        data=PIPELINE.data(masks=True, volumes=False),


use rule prepare as prepare_volumes with:
    output:
        **rules.prepare.output,
        masks=Prepare.masks,
        volumes=Prepare.volumes,
    wildcard_constraints:
        data=PIPELINE.data(masks=True, volumes=True),


rule fold:
    input:
        card=Prepare.card,
        prepared=PIPELINE.prepared,
    output:
        split=Fold.split,
        calibration=Fold.calibration,
        card=Fold.card,
        config=Fold.config,
        metrics=Fold.metrics,
    log:
        Fold.log,
    wildcard_constraints:
        data=PIPELINE.folded,
    conda:
        "../../envs/full.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        code=PIPELINE.code("fold"),
        cfg=PIPELINE.prepare_slice,
    message:
        "deal {wildcards.data}: fold {wildcards.fold} is tested"
    script:
        "../scripts/fold.py"
