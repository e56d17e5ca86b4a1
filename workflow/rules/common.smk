"""The plan of the chosen sweep, and the functions that give each rule its slice and inputs."""

import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

# Of this very file, wherever a study includes it from; an installed package has its library beside the workflow.
SOURCE = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parents[1]
if (SOURCE / "src" / "edgeward").is_dir():
    sys.path.insert(0, str(SOURCE / "src"))

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
    Port,
    Prepare,
    Profile,
    Report,
    Scaling,
    ScalingProfile,
    Train,
)
from edgeward.pipeline.rules import Pipeline

try:
    PIPELINE = Pipeline(config)
    if workflow.is_main_process:
        PIPELINE.enter()
except UserError as error:
    raise WorkflowError(str(error)) from None
except OSError as error:
    raise WorkflowError(
        f"{error}. The workflow keeps state in this folder: it must be writable, with room left."
    ) from None


wildcard_constraints:
    **PIPELINE.wildcards,


# What measures takes all cores, so that nothing runs beside it; on a cluster, where Snakemake has none of its own, profiles/slurm
# asks for a whole node.
MACHINE = workflow.resource_settings.cores or 1
