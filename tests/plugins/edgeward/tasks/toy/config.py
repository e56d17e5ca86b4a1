"""Its keys."""

from pydantic import Field

from edgeward.core.config import Closed

LOSSES = ()


class Safety(Closed):
    """What ``assess`` asks of it."""

    margin: float = Field(0.05, gt=0, lt=1, description="Of accuracy.")
