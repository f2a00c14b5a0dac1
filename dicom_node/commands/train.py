"""`fullfield train`: make a profile's weights from paired data sets and CT projections."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from training.train import Material, TrainingSettings

app = typer.Typer(
    help="Train the aperture finder, the VAE prior, then Palette on it; each resumes where it stopped.",
    no_args_is_help=True,
)

Data = Annotated[
    list[Path],
    typer.Option("--data", help="A paired data set whose pairs.csv names the splits train and val; repeatable."),
]
Projections = Annotated[
    Path | None, typer.Option(help="Line integrals of CT views, written by `fullfield train project`.")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="The run's folder; it becomes the profile's folder.")]
Steps = Annotated[int, typer.Option(min=1, help="Training steps.")]
Size = Annotated[int, typer.Option("--batch", min=1, help="Pictures a step.")]
Seed = Annotated[int, typer.Option(help="Seed of weights, examples and noise.")]
Start = Annotated[Path | None, typer.Option(help="Weights to begin with, in place of random ones.")]
Precision = Annotated[str, typer.Option(help="no, fp16 or bf16.")]


@app.command()
def project(
    ct: Annotated[Path, typer.Argument(metavar="CT", help="A CT in Hounsfield units (NIfTI).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write (.npy).")],
    count: Annotated[int, typer.Option(min=1, help="How many random views.")] = 400,
    size: Annotated[int, typer.Option(min=32, help="Side of a view in pixels.")] = 384,
    seed: Annotated[int, typer.Option(help="Seed of the views.")] = 20,
) -> None:
    """Draw random C-arm projections of a CT.

    Example: fullfield train project chest.nii.gz -o views.npy
    """
    from config.errors import ConfigError
    from training.project import write_views

    if not ct.is_file():
        raise ConfigError(f"{ct}: not found")
    write_views(ct, out, count=count, size=size, seed=seed)
    typer.echo(f"{count} views in {out}")


@app.command()
def aperture(
    data: Data,
    out: Out,
    projections: Projections = None,
    steps: Steps = 3000,
    batch: Size = 8,
    seed: Seed = 1,
    precision: Precision = "bf16",
) -> None:
    """Train the aperture finder.

    Example: fullfield train aperture --data pairs --projections views.npy -o runs/first
    """
    from training.train import train_aperture

    path = train_aperture(_material(data, projections), _settings(steps, batch, seed, precision), out)
    typer.echo(f"best weights in {path}")


@app.command()
def vae(
    data: Data,
    out: Out,
    projections: Projections = None,
    steps: Steps = 3000,
    batch: Size = 8,
    seed: Seed = 1,
    precision: Precision = "bf16",
    start: Start = None,
    leave_out: Annotated[
        int | None, typer.Option(min=0, max=1, help="The half of the scenes that this prior is not to see.")
    ] = None,
) -> None:
    """Train the VAE prior; with --leave-out, one of the two that Palette learns from.

    Example: fullfield train vae --data pairs --projections views.npy -o runs/first
    """
    from training.train import train_vae

    settings = _settings(steps, batch, seed, precision)
    path = train_vae(_material(data, projections), settings, out, start=start, leave_out=leave_out)
    typer.echo(f"best weights in {path}")


@app.command()
def palette(
    data: Data,
    out: Out,
    projections: Projections = None,
    steps: Steps = 3000,
    batch: Size = 8,
    seed: Seed = 1,
    precision: Precision = "bf16",
    start: Start = None,
    version: Annotated[str, typer.Option(help="Version that results will name.")] = "1.0",
) -> None:
    """Train Palette on the VAEs of the same folder, then seal it, the VAE and the aperture finder as a profile.

    Example: fullfield train palette --data pairs --projections views.npy -o runs/first
    """
    from inference.vae import VAE
    from inference.weights import VAE_CHANNELS, VAE_LATENT_CHANNELS, read_weights
    from training.examples import FOLDS
    from training.train import fold_prior_name, require_runs, seal, train_palette

    names = ["vae", *(fold_prior_name(fold) for fold in range(FOLDS))]
    require_runs(out, ("aperture", *names))
    priors = [VAE(VAE_CHANNELS, VAE_LATENT_CHANNELS) for _ in names]
    for prior, name in zip(priors, names, strict=True):
        read_weights(prior, out / f"{name}.safetensors")
    settings = _settings(steps, batch, seed, precision)
    train_palette(priors[0], priors[1:], _material(data, projections), settings, out, start=start)
    seal(out, version, data)
    typer.echo(f"profile {version} in {out}")


def _material(data: list[Path], projections: Path | None) -> "Material":
    from config.errors import ConfigError
    from training.pairs import read_pairs
    from training.train import Material

    training = [pair for folder in data for pair in read_pairs(folder, "train")]
    validation = [pair for folder in data for pair in read_pairs(folder, "val")]
    if projections is not None and not projections.is_file():
        raise ConfigError(f"{projections}: not found; `fullfield train project` writes it")
    return Material(training=training, validation=validation, projections=projections)


def _settings(steps: int, batch: int, seed: int, precision: str) -> "TrainingSettings":
    from config.errors import ConfigError
    from training.train import TrainingSettings

    if precision not in ("no", "fp16", "bf16"):
        raise ConfigError(f"precision {precision!r} is unknown; use no, fp16 or bf16")
    return TrainingSettings(steps=steps, batch=batch, seed=seed, mixed_precision=precision)
