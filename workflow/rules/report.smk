"""Put the evidence of a sweep on one page, and a checklist beside every candidate."""


rule report:
    input:
        candidates=PIPELINE.candidates,
        builds=PIPELINE.builds,
        sizes=PIPELINE.sizes,
        turns=PIPELINE.turns,
        pooled=PIPELINE.pooled,
    output:
        page=report(
            Report.page,
            caption="../report/page.rst",
            category="Verdict",
            labels={"sweep": "{sweep}", "what": "full report"},
        ),
        comparison=report(
            Report.comparison,
            caption="../report/comparison.rst",
            category="Verdict",
            labels={"sweep": "{sweep}", "what": "comparison"},
        ),
        comparison_json=Report.comparison_json,
        size_tables=PIPELINE.size_tables,
        figures=report(
            directory(Report.figures),
            patterns=["{figure}.svg"],
            caption="../report/figures.rst",
            category="Figures",
            labels={"sweep": "{sweep}", "what": "{figure}"},
        ),
        tables=directory(Report.tables),
        checklists=report(
            directory(Report.checklists),
            patterns=["{name}.md"],
            caption="../report/checklist.rst",
            category="Deployment checklists",
            labels={"candidate": "{name}"},
        ),
        config=Report.config,
        metrics=Report.metrics,
    log:
        Report.log,
    conda:
        "../../envs/runtime.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        code=PIPELINE.code("report"),
        cfg=PIPELINE.report_slice,
    message:
        "report of sweep {wildcards.sweep}"
    script:
        "../scripts/report.py"
