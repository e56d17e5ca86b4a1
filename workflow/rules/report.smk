"""Put the evidence of a sweep on one page, and a checklist beside every candidate."""


rule report:
    input:
        code=code("report"),
        evidence=report_inputs,
    output:
        **scaling_outputs(),
        **volumes_outputs(),
        page=report(
            "results/report/{sweep}/index.html",
            caption="../report/page.rst",
            category="Verdict",
            labels={"sweep": "{sweep}", "what": "full report"},
        ),
        comparison=report(
            "results/report/{sweep}/comparison.csv",
            caption="../report/comparison.rst",
            category="Verdict",
            labels={"sweep": "{sweep}", "what": "comparison"},
        ),
        comparison_json="results/report/{sweep}/comparison.json",
        latency=report(
            "results/report/{sweep}/figures/latency_vs_quality.svg",
            caption="../report/latency.rst",
            category="Figures",
            labels={"sweep": "{sweep}", "what": "latency against quality"},
        ),
        reliability=report(
            "results/report/{sweep}/figures/reliability.svg",
            caption="../report/reliability.rst",
            category="Figures",
            labels={"sweep": "{sweep}", "what": "reliability"},
        ),
        forest=report(
            "results/report/{sweep}/figures/forest.svg",
            caption="../report/forest.rst",
            category="Figures",
            labels={"sweep": "{sweep}", "what": "differences per class"},
        ),
        roofline=report(
            "results/report/{sweep}/figures/roofline.svg",
            caption="../report/roofline.rst",
            category="Figures",
            labels={
                "sweep": "{sweep}",
                "what": "measured latency against the roofline",
            },
        ),
        ranks=report(
            "results/report/{sweep}/figures/ranks.svg",
            caption="../report/ranks.rst",
            category="Figures",
            labels={"sweep": "{sweep}", "what": "what foretells latency"},
        ),
        training=report(
            "results/report/{sweep}/figures/training.svg",
            caption="../report/training.rst",
            category="Figures",
            labels={"sweep": "{sweep}", "what": "training curves"},
        ),
        checklists=report(
            directory("results/report/{sweep}/checklists"),
            caption="../report/checklist.rst",
            patterns=["{name}.md"],
            category="Deployment checklists",
            labels={"candidate": "{name}"},
        ),
        config="results/report/{sweep}/config.yaml",
        metrics="results/report/{sweep}/metrics.json",
    log:
        "logs/report/{sweep}.log",
    benchmark:
        "logs/report/{sweep}.benchmark.tsv"
    conda:
        "../../envs/runtime.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        cfg=report_slice,
    message:
        "report of sweep {wildcards.sweep}"
    script:
        "../scripts/report.py"
