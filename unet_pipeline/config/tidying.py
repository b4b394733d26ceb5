"""The request to remove what runs have left behind and nobody needs."""

from typing import Annotated

from pydantic import Field, field_validator

from unet_pipeline.config.fields import Place, Settings
from unet_pipeline.config.options import Option
from unet_pipeline.config.parts import Access, AccessSettings
from unet_pipeline.config.stops import Duration


class TidySettings(Settings):
    """Old folders of runs, and scratch of killed ones, are named, and removed on request."""

    output: Annotated[Place, Option(argument=True)] = Field(
        description="Output of segment, check or statistics, whose folder runs is looked through."
    )
    keep: int = Field(
        30, ge=1, description="So many of the newest run folders stay, however old they are."
    )
    older_than: Annotated[Duration, Option(metavar="90d|12h")] = Field(
        "90d", description="Run folders that are younger stay, however many they are."
    )
    scratch: Annotated[str | None, Option(metavar="FOLDER")] = Field(
        None,
        description="Folder that runs have their scratch in, as --scratch of segment says. "
        "Default: the system's folder for temporary files.",
    )
    flow_runs: bool = Field(
        False,
        description="Also old flow runs of a Prefect server: the one that up runs here, or that of "
        "PREFECT_API_URL. The newest stay here, too, and so does what has not ended.",
    )
    yes: bool = Field(False, description="Remove it. Default: only say what would be removed.")
    storage: Access = AccessSettings()

    @field_validator("scratch", mode="before")
    @classmethod
    def _nothing_named(cls, value: object) -> object:
        """Take an empty variable for none."""
        return value or None
