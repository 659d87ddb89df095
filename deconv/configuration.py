"""The base of every configuration section. A section lives beside what it configures."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen set of settings that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
