"""`fullfield dataset`: make paired data sets, and find what is wrong with them."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Make a paired data set from a CT, and check one before training on it.", no_args_is_help=True)


@app.command()
def make(
    ct: Annotated[Path, typer.Argument(metavar="CT", help="A CT in Hounsfield units (NIfTI).")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The data set's folder, a new one.")],
    count: Annotated[int, typer.Option(min=1, help="How many pairs.")],
    size: Annotated[int, typer.Option(min=64, max=2048, help="Side of the pictures in pixels.")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="Seed of views, apertures, exposures and noise.")] = 0,
    split: Annotated[
        str, typer.Option(metavar="NAME=SHARE,...", help="The splits and their shares; scenes are not divided.")
    ] = "train=0.85,val=0.15",
) -> None:
    """Make a paired data set: random C-arm views of a CT, each with and without simulated collimation.

    Views at nearly the same angles share a scene. parameters.json holds what the simulator was told of each pair.

    Example: fullfield dataset make chest.nii.gz -o pairs --count 400
    """
    from training.dataset import make_dataset

    shares = _shares(split)
    counts = make_dataset(ct, out, count=count, size=size, seed=seed, splits=shares)
    typer.echo(f"{count} pairs in {out}: " + ", ".join(f"{counts[name]} {name}" for name in shares))


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A paired data set: full/, collimated/ and pairs.csv.")],
) -> None:
    """Check a paired data set: splits, scenes, pictures, apertures and grey levels; exit status 1 for any fault.

    Example: fullfield dataset check pairs
    """
    from config.errors import FullfieldError
    from training.dataset_check import check_dataset

    findings = check_dataset(folder)
    for fact in findings.facts:
        typer.echo(fact)
    if findings.faults:
        raise FullfieldError("\n".join(findings.faults))
    typer.echo("no fault found")


def _shares(text: str) -> dict[str, float]:
    """The splits of `--split`, with their shares."""
    from config.errors import ConfigError

    shares = {}
    for part in text.split(","):
        name, _, share = part.partition("=")
        try:
            shares[name.strip()] = float(share)
        except ValueError:
            shares[name.strip()] = 0.0
    if not all(name and 0 < share < float("inf") for name, share in shares.items()):
        raise ConfigError(f"--split {text}: write NAME=SHARE,NAME=SHARE with shares above 0, such as train=0.8,val=0.2")
    return shares
