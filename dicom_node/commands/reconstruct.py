"""`fullfield reconstruct`: DICOM files in, results and pictures of before and after out, without a node."""

from collections.abc import Callable
from enum import StrEnum
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from config.errors import Declined
from dicom_node.commands.inputs import Found, Inputs, dicom_files

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from inference.reconstruct import Reconstructor

#: Stands where a node's results name their route, and so is part of their UIDs.
ROUTE = "command-line"


class Kind(StrEnum):
    """The two modes, as an option."""

    MEAN = "mean"
    SAMPLE = "sample"


def reconstruct(
    inputs: Inputs,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for results; made if it is not there.")
    ],
    mode: Annotated[
        Kind, typer.Option(help="The best estimate of the hidden field, or one draw from the posterior.")
    ] = Kind.MEAN,
    profile: Annotated[str, typer.Option(metavar="NAME", help="Model profile.")] = "fullfield",
    models: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of profiles; without it those that come with Fullfield."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=2**32 - 1,
            metavar="N",
            help="Seed of the noise of `sample`; without it each image has its own, the same each time.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Reconstruct DICOM images without a node: for each its pictures, what goes beside them, and a PNG of before and
    after.

    What cannot be reconstructed is told in a line each. Exits with 1 if nothing could be.

    Example: fullfield reconstruct cine.dcm -o results
    """
    from rich.console import Console
    from rich.progress import Progress

    from dicom_node.workflow.reconstruction import read_image
    from inference.on_disk import keep_arrays_in
    from inference.reconstruct import Reconstructor, choose_device
    from inference.weights import MODELS, load_weights

    images = dicom_files(inputs)
    reconstructor = Reconstructor(load_weights(profile, models or MODELS), choose_device(device))
    names = _names(images)
    keep_arrays_in(next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.is_dir()))
    done = 0
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for number, (image, name) in enumerate(zip(images, names, strict=True), start=1):
            task = progress.add_task(f"{image.place} ({number} of {len(images)})", total=1.0)

            def show(share: float, task: int = task) -> None:
                progress.update(task, completed=share)  # type: ignore[arg-type]  # NewType of int

            try:
                source = read_image(image.path)
                results = _results(source, reconstructor, mode, seed, show)
                written = _write(source, results, out / name)
                done += 1
                line = f"{image.path}: {written}"
            except Declined as error:
                line = f"{image.path}: not reconstructed: {error}"
            progress.remove_task(task)
            progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
    typer.echo(f"{done} of {len(images)} images reconstructed into {out}.")
    if done == 0:
        raise typer.Exit(1)


def _results(
    source: "Dataset",
    reconstructor: "Reconstructor",
    mode: Kind,
    seed: int | None,
    progress: Callable[[float], None],
) -> list["Dataset"]:
    from config.mark import Mark
    from dicom_node.workflow.reconstruction import results_of

    return results_of(source, reconstructor, route=ROUTE, mark=Mark(), mode=mode.value, seed=seed, progress=progress)


def _write(source: "Dataset", results: list["Dataset"], stem: Path) -> str:
    """Write the objects and the picture; where, in words."""
    from dicom_node.objects.preview import before_after
    from dicom_node.sop_classes import BESIDE

    beside = [result for result in results if result.SOPClassUID in BESIDE]
    pictures = [result for result in results if result.SOPClassUID not in BESIDE]
    stem.parent.mkdir(parents=True, exist_ok=True)
    for part, result in enumerate(pictures, start=1):
        ending = f"-{part:04d}" if len(pictures) > 1 else ""
        result.save_as(stem.with_name(f"{stem.name}-fullfield{ending}.dcm"), enforce_file_format=True)
    for result in beside:
        result.save_as(stem.with_name(f"{stem.name}-fullfield-{_kind(result)}.dcm"), enforce_file_format=True)
    frames = int(source.get("NumberOfFrames") or 1)
    middle = frames // 2
    shown = pictures[middle] if len(pictures) == frames else pictures[0]
    picture = stem.with_name(f"{stem.name}-fullfield.png")
    before_after(source, shown, middle).save(picture)
    counted = "1 frame" if frames == 1 else f"{frames} frames"
    objects = "1 object" if len(pictures) == 1 else f"{len(pictures)} objects"
    return f"{counted} reconstructed into {objects} and {len(beside)} beside, shown in {picture}."


def _kind(result: "Dataset") -> str:
    """What an object beside a picture is, as part of its file's name."""
    names = {"GENERATED_PIXELS": "segmentation", "GENERATED_MARKED": "marked", "MEASURED_ONLY": "measured"}
    return names.get(str(result.get("ContentLabel")), "report")


def _names(images: list[Found]) -> list[Path]:
    """Where each image's results go below the output folder: its own place, numbered where two share one."""
    names: dict[Path, None] = {}
    for image in images:
        place = image.place.with_suffix("") if image.place.suffix.lower() == ".dcm" else image.place
        numbered = (place.with_name(f"{place.name}-{number}") for number in count(2))
        names[next(name for name in chain([place], numbered) if name not in names)] = None
    return list(names)
