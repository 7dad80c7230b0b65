"""What every event of a scenario's timeline is made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Nth = Annotated[int, Field(ge=0)]
RESTART_S = 60.0  # from a crash until a job computes again: its last checkpoint is read, its ranks meet; assumed
Share = Annotated[float, Field(gt=0, le=1)]


class EventModel(BaseModel):
    """Frozen, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
