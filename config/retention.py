"""How long objects are kept, and what makes room when the disk runs low."""

from pydantic import Field

from config.section import Section


class RetentionSettings(Section):
    """How long objects are kept. Nothing of a job that is under way, undelivered or awaits commitment is deleted.

    Nor is anything of a study under a legal hold (`fullfield storage hold`). Left out: kept for ever.
    """

    originals_days: float | None = Field(
        default=None, gt=0, description="Days after which what was received is deleted; unset: not by age."
    )
    results_days: float | None = Field(
        default=None, gt=0, description="Days after which results are deleted; unset: not by age."
    )
    originals_make_room: bool = Field(
        default=False,
        description="Whether the oldest originals are deleted, whatever their age, while less than `low_below_mb` is "
        "free.",
    )
    results_make_room: bool = Field(
        default=False,
        description="Whether the oldest results are deleted, before any original, while less than `low_below_mb` is "
        "free.",
    )
