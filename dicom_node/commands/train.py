"""`fullfield train`: make a profile's weights from paired data sets and CT projections.

Several GPUs or machines take part under accelerate's launcher: `accelerate launch -m dicom_node train vae ...`.
"""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from config.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from training.loop import Material, Task
    from training.settings import TrainingFile, TrainingSettings

    Trained = TypeVar("Trained", bound=TrainingSettings)

app = typer.Typer(
    help="Train aperture finder, VAE prior and Palette on it, distil it, calibrate; each resumes where it stopped.",
    no_args_is_help=True,
)


class Profile(StrEnum):
    """Which method is trained."""

    FULLFIELD = "fullfield"
    THESIS = "thesis"


class Precision(StrEnum):
    """Number formats of the network's layers."""

    NO = "no"
    FP16 = "fp16"
    BF16 = "bf16"


Data = Annotated[
    list[Path] | None,
    typer.Option("--data", help="A paired data set whose pairs.csv names the splits train and val; repeatable."),
]
Projections = Annotated[
    Path | None, typer.Option(help="Line integrals of CT views, written by `fullfield train project`.")
]
Drawn = Annotated[
    Path | None, typer.Option("--examples", help="Examples drawn ahead, a folder written by `fullfield train draw`.")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="The run's folder; it becomes the profile's folder.")]
Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Hyperparameters (TOML), overruled by the options here; config/examples/train.toml explains each.",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(min=1, help="Training steps; without it 3000, 1000 to distil, or all epochs of the thesis's method."),
]
Size = Annotated[
    int | None, typer.Option("--batch", min=1, help="Pictures a step and process; without it 8, or the thesis's 3.")
]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of weights, examples and noise; without it 1.")]
NumberFormat = Annotated[
    Precision | None,
    typer.Option("--precision", help="Number format; without it the one that is faster here, or the thesis's no."),
]
Start = Annotated[Path | None, typer.Option(help="Weights to begin with, in place of random ones.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be trained and how long it would take; write nothing.")
]
Method = Annotated[
    Profile, typer.Option("--profile", help="The product's method, or the thesis's with its own hyperparameters.")
]
Version = Annotated[str, typer.Option(help="Version that results will name.")]


@app.command()
def project(
    ct: Annotated[Path, typer.Argument(metavar="CT", help="A CT in Hounsfield units (NIfTI).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write (.npy).")],
    count: Annotated[int, typer.Option(min=1, help="How many random views.")] = 400,
    size: Annotated[int, typer.Option(min=32, help="Side of a view in pixels.")] = 384,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the views.")] = 20,
) -> None:
    """Draw random C-arm projections of a CT.

    Example: fullfield train project chest.nii.gz -o views.npy
    """
    from training.project import write_views

    write_views(ct, out, count=count, size=size, seed=seed)
    typer.echo(f"{count} views in {out}")


@app.command()
def draw(
    out: Annotated[Path, typer.Option("--out", "-o", help="The new folder to write; about 330 kB an example.")],
    data: Data = None,
    projections: Projections = None,
    config: Config = None,
    count: Annotated[int, typer.Option(min=1, help="How many examples.")] = 20_000,
    seed: Seed = None,
) -> None:
    """Draw training examples ahead, on all processors, for trainings on a GPU, which would wait for one of them.

    The shares of the kinds of examples are those of [vae] in --config; trainings have to have the same.

    Example: fullfield train draw --data pairs --projections views.npy -o examples
    """
    from training.drawn import draw_ahead
    from training.settings import load_training_file

    file = load_training_file(config)
    settings = _overruled(file.vae, None, None, seed, None)
    material = _material(file, data, projections)
    drawn = draw_ahead(material.training, material.projections, settings, out, count=count)
    _say(f"{drawn} examples in {out}")


@app.command()
def aperture(
    out: Out,
    data: Data = None,
    projections: Projections = None,
    examples: Drawn = None,
    config: Config = None,
    steps: Steps = None,
    batch: Size = None,
    seed: Seed = None,
    precision: NumberFormat = None,
    start: Start = None,
    dry_run: DryRun = False,
) -> None:
    """Train the aperture finder.

    Example: fullfield train aperture --data pairs --projections views.npy -o runs/first
    """
    from training.settings import load_training_file
    from training.train import aperture_task

    file = load_training_file(config)
    settings = _overruled(file.aperture, steps, batch, seed, precision)
    material = _material(file, data, projections, examples)
    _train(lambda: aperture_task(settings), material, settings, out, start, dry_run)


@app.command()
def vae(
    out: Out,
    data: Data = None,
    projections: Projections = None,
    examples: Drawn = None,
    config: Config = None,
    steps: Steps = None,
    batch: Size = None,
    seed: Seed = None,
    precision: NumberFormat = None,
    start: Start = None,
    leave_out: Annotated[
        int | None, typer.Option(min=0, max=1, help="The half of the scenes that this prior is not to see.")
    ] = None,
    profile: Method = Profile.FULLFIELD,
    dry_run: DryRun = False,
) -> None:
    """Train the VAE prior; with --leave-out, one of the two that Palette learns from.

    Example: fullfield train vae --data pairs --projections views.npy -o runs/first
    """
    from training.settings import load_training_file
    from training.train import vae_task

    file = load_training_file(config)
    if profile is Profile.THESIS:
        from training.thesis import VAE_SETTINGS, train_thesis_vae

        _refuse(
            config=config,
            projections=projections,
            examples=examples,
            start=start,
            leave_out=leave_out,
            dry_run=dry_run,
        )
        material = _material(file, data, None)
        changes = _given(steps=steps, batch=batch, seed=seed, mixed_precision=precision)
        path = train_thesis_vae(material.training, material.validation, out, replace(VAE_SETTINGS, **changes))
        _say(f"weights in {path}")
        return
    settings = _overruled(file.vae, steps, batch, seed, precision)
    material = _material(file, data, projections, examples)
    _train(lambda: vae_task(settings, leave_out=leave_out), material, settings, out, start, dry_run)


@app.command()
def palette(
    out: Out,
    data: Data = None,
    projections: Projections = None,
    examples: Drawn = None,
    config: Config = None,
    steps: Steps = None,
    batch: Size = None,
    seed: Seed = None,
    precision: NumberFormat = None,
    start: Start = None,
    profile: Method = Profile.FULLFIELD,
    version: Annotated[str, typer.Option(help="Version of the thesis's profile, which is whole after this.")] = "1.0",
    dry_run: DryRun = False,
) -> None:
    """Train Palette on the VAEs of the same folder.

    Example: fullfield train palette --data pairs --projections views.npy -o runs/first
    """
    from training.settings import load_training_file

    file = load_training_file(config)
    if profile is Profile.THESIS:
        _refuse(config=config, projections=projections, examples=examples, start=start, dry_run=dry_run)
        changes = _given(steps=steps, batch=batch, seed=seed, mixed_precision=precision)
        _train_thesis_palette(_material(file, data, None), changes, out, version)
        return
    from inference.vae import VAE
    from inference.weights import VAE_CHANNELS, VAE_LATENT_CHANNELS, read_weights
    from training.examples import FOLDS
    from training.seal import require_runs
    from training.train import fold_prior_name, palette_task

    settings = _overruled(file.palette, steps, batch, seed, precision)
    names = ["vae", *(fold_prior_name(fold) for fold in range(FOLDS))]
    require_runs(out, names)
    priors = [VAE(VAE_CHANNELS, VAE_LATENT_CHANNELS) for _ in names]
    for prior, name in zip(priors, names, strict=True):
        read_weights(prior, out / f"{name}.safetensors")
    material = _material(file, data, projections, examples)
    _train(lambda: palette_task(priors[0], priors[1:], settings), material, settings, out, start, dry_run)


@app.command()
def distil(
    out: Out,
    data: Data = None,
    projections: Projections = None,
    examples: Drawn = None,
    config: Config = None,
    steps: Steps = None,
    batch: Size = None,
    seed: Seed = None,
    precision: NumberFormat = None,
    draws: Annotated[
        int | None, typer.Option(min=1, help="Draws of Palette's to learn from, 0.9 MB each; without it 1500.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Distil the Palette of the same folder: to draw in two evaluations what it draws in six.

    Example: fullfield train distil --data pairs --projections views.npy -o runs/first
    """
    from tempfile import TemporaryDirectory

    from accelerate import PartialState

    from training.distil import DISTILLED, distil_task
    from training.seal import require_runs
    from training.settings import load_training_file
    from training.teacher import TEACHERS, draw_by_teacher, read_teacher

    require_runs(out, TEACHERS)
    file = load_training_file(config)
    settings = _overruled(file.distil, steps, batch, seed, precision).model_copy(update=_given(draws=draws))
    material = _material(file, data, projections, examples)
    (vae, *_), teacher = read_teacher(out)
    with TemporaryDirectory() as folder:
        # A rehearsal writes nothing that stays, and needs no more than it looks at.
        few = settings.model_copy(update={"draws": settings.batch})
        wanted, file_of_draws = (few, Path(folder)) if dry_run else (settings, out)
        with PartialState().main_process_first():
            drawn = draw_by_teacher(out, material, wanted, file_of_draws / f"{DISTILLED}-from.npy")
        _train(
            lambda: distil_task(drawn, teacher, vae, settings),
            material,
            settings,
            out,
            out / "palette.safetensors",
            dry_run,
        )


@app.command()
def calibrate(
    out: Out,
    data: Data = None,
    projections: Projections = None,
    config: Config = None,
    version: Version = "1.0",
) -> None:
    """Calibrate intervals and declines, then seal the trained networks as a profile.

    Example: fullfield train calibrate --data pairs --projections views.npy -o runs/first --version 2.0
    """
    from training.calibrate import calibrate as calibrate_profile
    from training.seal import RUNS, require_runs, seal
    from training.settings import load_training_file

    require_runs(out, RUNS)
    material = _material(load_training_file(config), data, projections)
    pairs = [*material.training, *material.validation]
    calibrate_profile(out, pairs, material.projections)
    seal(out, version, pairs, material.projections)
    _say(f"profile {version} in {out}")


def _train(
    task_of: "Callable[[], Task]",
    material: "Material",
    settings: "TrainingSettings",
    out: Path,
    start: Path | None,
    dry_run: bool,
) -> None:
    from training.loop import train
    from training.rehearsal import rehearse

    if dry_run:
        _say("\n".join(rehearse(task_of(), material, settings, out, start)))
    else:
        _say(f"best weights in {train(task_of(), material, settings, out, start)}")


def _train_thesis_palette(material: "Material", changes: dict[str, Any], out: Path, version: str) -> None:
    from inference.thesis.vae import VAE
    from inference.weights import read_weights
    from training.thesis import PALETTE_SETTINGS, seal_thesis, train_thesis_palette

    vae = VAE()
    read_weights(vae, out / "vae.safetensors")
    train_thesis_palette(vae, material.training, material.validation, out, replace(PALETTE_SETTINGS, **changes))
    seal_thesis(out, version)
    _say(f"profile {version} of the thesis's method in {out}")


def _material(
    file: "TrainingFile", data: list[Path] | None, projections: Path | None, examples: Path | None = None
) -> "Material":
    """The pairs, views and drawn examples that the options name, else those of the file."""
    from training.loop import Material
    from training.pairs import read_pairs, scenes_in_two_splits

    folders = data or list(file.data.pairs)
    if not folders:
        raise ConfigError("no pairs to train on: name a paired data set with --data, or in [data] of --config")
    views = projections or file.data.projections
    if views is not None and not views.is_file():
        raise ConfigError(f"{views}: not found; `fullfield train project` writes it")
    training, validation = [], []
    for folder in folders:
        learnt, kept_out = read_pairs(folder, "train"), read_pairs(folder, "val")
        for fault in scenes_in_two_splits([*learnt, *kept_out]):
            raise ConfigError(f"{folder / 'pairs.csv'}: {fault}")
        training += learnt
        validation += kept_out
    return Material(training=training, validation=validation, projections=views, drawn=examples or file.data.examples)


def _overruled(
    settings: "Trained", steps: int | None, batch: int | None, seed: int | None, precision: Precision | None
) -> "Trained":
    """The settings of the file, with what the options say in their place."""
    return settings.model_copy(update=_given(steps=steps, batch=batch, seed=seed, mixed_precision=precision))


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given, an enumeration's by their plain value."""
    return {
        name: str(value) if isinstance(value, StrEnum) else value
        for name, value in options.items()
        if value is not None
    }


def _refuse(**options: Any) -> None:
    """Raise ConfigError for an option that the thesis's method does not have."""
    for name, value in options.items():
        if value is not None and value is not False:
            raise ConfigError(f"--{name.replace('_', '-')} is not for the thesis's method, whose way is laid down")


def _say(text: str) -> None:
    """Print, once for all processes that train together."""
    from accelerate import PartialState

    if PartialState().is_main_process:
        typer.echo(text)
