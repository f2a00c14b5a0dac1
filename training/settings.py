"""The hyperparameters of the trainings, and the TOML file that sets them.

`fullfield train vae --config train.toml` reads it; `config/examples/train.toml` is one to start from. What the
command line says goes before what the file says.
"""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from config.mistakes import config_error, place_in, read_toml
from config.section import Section

Precision = Literal["auto", "no", "fp16", "bf16"]


class TrainingSettings(Section):
    """What every training has; a run resumes only with the settings that it began with."""

    steps: int = Field(default=3000, ge=1, description="Training steps, over which the learning rate falls to 0.")
    batch: int = Field(default=8, ge=1, description="Pictures a step and process.")
    learning_rate: float = Field(default=3e-4, ge=0, description="Highest learning rate, of AdamW.")
    warm_up: int = Field(default=200, ge=0, description="First steps, over which the learning rate rises.")
    weight_decay: float = Field(default=0.01, ge=0, description="Decoupled weight decay, of AdamW.")
    ema: float = Field(default=0.998, ge=0, lt=1, description="How much of the average of the weights stays each step.")
    seed: int = Field(default=1, ge=0, description="Seed of weights, examples and noise.")
    validate_every: int = Field(default=500, ge=1, description="Steps from one validation and checkpoint to the next.")
    mixed_precision: Precision = Field(
        default="auto", description="Number format of the network's layers; auto is bf16 where that is faster, else no."
    )
    ct_share: float = Field(
        default=0.3, ge=0, le=1, description="Share of the examples simulated on CT views, where there are any."
    )
    redrawn_share: float = Field(
        default=0.35, ge=0, le=1, description="Share simulated on objects redrawn from the pairs' full pictures."
    )
    several_share: float = Field(
        default=0.5, ge=0, le=1, description="Share of the examples that average frames behind the blades."
    )

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if self.ct_share + self.redrawn_share > 1:
            raise ValueError("ct_share and redrawn_share are together at most 1: shares of one whole")
        return self


class ApertureSettings(TrainingSettings):
    """The aperture finder."""

    open_share: float = Field(default=0.2, ge=0, le=1, description="Share of the pictures that show the open field.")


class VAESettings(TrainingSettings):
    """The VAE prior: weights of its losses beside the mean squared error in the hidden region."""

    ssim_weight: float = Field(default=0.03, ge=0, description="Weight of 1 - SSIM.")
    variance_weight: float = Field(default=0.01, ge=0, description="Weight of the surprise, which teaches variances.")
    kl_weight: float = Field(default=7e-7, ge=0, description="Weight of the KL divergence; the thesis's.")


class PaletteSettings(TrainingSettings):
    """Palette: the noise levels that it learns at, log-normal.

    Somewhat higher than EDM's (table 1), since it is the shapes across the whole field that are hard.
    """

    noise_mean: float = Field(default=0.2, description="Mean of the natural logarithm of the noise level.")
    noise_spread: float = Field(default=1.5, gt=0, description="Standard deviation of that logarithm.")
    familiar_share: float = Field(
        default=0.5, ge=0, le=1, description="Share learnt on the prior of the profile, which has seen the scene."
    )


class DistilSettings(TrainingSettings):
    """Palette distilled to the few evaluations of the product's draws."""

    steps: int = Field(default=1000, ge=1, description="Training steps, over which the learning rate falls to 0.")
    warm_up: int = Field(default=50, ge=0, description="First steps, over which the learning rate rises.")
    validate_every: int = Field(default=250, ge=1, description="Steps from one validation and checkpoint to the next.")
    learning_rate: float = Field(default=2e-4, ge=0, description="Highest learning rate, of AdamW.")
    ema: float = Field(default=0.995, ge=0, lt=1, description="How much of the average of the weights stays each step.")
    draws: int = Field(default=1500, ge=1, description="Draws of the teacher that the student learns from.")
    familiar_share: float = Field(
        default=0.7, ge=0, le=1, description="Share drawn on the prior of the profile, which has seen the scene."
    )
    detail_weight: float = Field(default=0.05, ge=0, description="Weight of the error's share of each fine octave.")


class DataSettings(Section):
    """What is trained on, where the command line does not say."""

    pairs: tuple[Path, ...] = Field(default=(), description="Paired data sets, with the splits train and val.")
    projections: Path | None = Field(
        default=None, description="Line integrals of CT views, written by `fullfield train project`."
    )
    examples: Path | None = Field(default=None, description="Examples drawn ahead, written by `fullfield train draw`.")


class TrainingFile(Section):
    """All hyperparameters, a table for each training."""

    data: DataSettings = Field(default=DataSettings(), description=DataSettings.__doc__)
    aperture: ApertureSettings = Field(default=ApertureSettings(), description=ApertureSettings.__doc__)
    vae: VAESettings = Field(default=VAESettings(), description=VAESettings.__doc__)
    palette: PaletteSettings = Field(default=PaletteSettings(), description=PaletteSettings.__doc__)
    distil: DistilSettings = Field(default=DistilSettings(), description=DistilSettings.__doc__)


def load_training_file(path: Path | None) -> TrainingFile:
    """The hyperparameters in a TOML file, or the defaults when it is None; paths are relative to the file.

    Raises ConfigError: one sentence a mistake, with file, line, key, and what is allowed.
    """
    if path is None:
        return TrainingFile()
    text, values = read_toml(path)
    try:
        file = TrainingFile.model_validate(values)
    except ValidationError as error:
        raise config_error(error, TrainingFile, place_of=place_in(path, text)) from error
    data = file.data
    moved: dict[str, Any] = {"pairs": tuple(path.parent / folder for folder in data.pairs)}
    for name in ("projections", "examples"):
        if (named := getattr(data, name)) is not None:
            moved[name] = path.parent / named
    return file.model_copy(update={"data": data.model_copy(update=moved)})
