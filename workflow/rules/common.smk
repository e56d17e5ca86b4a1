"""The plan of the chosen sweep, and the functions that give each rule its slice and inputs."""

import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

sys.path.insert(0, str(Path(workflow.basedir) / "src"))

from edgeward.core.errors import UserError
from edgeward.pipeline.paths import (
    SYNC_LOG,
    Assess,
    Ceilings,
    Compress,
    Decide,
    Export,
    Fold,
    Interleave,
    Pool,
    Prepare,
    Profile,
    Report,
    Scaling,
    ScalingProfile,
    Train,
)
from edgeward.pipeline.rules import Pipeline

try:
    PIPELINE = Pipeline(Path(workflow.basedir), config)
except UserError as error:
    raise WorkflowError(str(error)) from None


wildcard_constraints:
    **PIPELINE.wildcards,
