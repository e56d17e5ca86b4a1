"""edgeward: prepare -> train -> compress -> export -> profile -> assess -> report."""

from snakemake.utils import min_version

min_version("9.27")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/prepare.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/compress.smk"
include: "workflow/rules/export.smk"
include: "workflow/rules/ceilings.smk"
include: "workflow/rules/profile.smk"
include: "workflow/rules/assess.smk"
include: "workflow/rules/scaling.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/tracking.smk"


localrules:
    all,


rule all:
    default_target: True
    input:
        PIPELINE.report,
