"""`fullfield import-checkpoint`: make a profile of weights that the thesis's own code trained."""

from pathlib import Path
from typing import Annotated

import typer


def import_checkpoint(
    vae: Annotated[Path, typer.Option(metavar="FILE", help="Lightning checkpoint of AntixK's PyTorch-VAE (.ckpt).")],
    palette: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Checkpoint of Janspiry's Palette, such as 12000_Network_ema.pth."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The profile's folder, to be written.")],
    version: Annotated[str, typer.Option(help="Version that results will name.")] = "1.0",
) -> None:
    """Make a profile of the thesis's method from checkpoints of the code that it was made with.

    The files are read without running code in them; names, shapes and numbers are checked.

    Example: fullfield import-checkpoint --vae last.ckpt --palette 12000_Network_ema.pth -o models/thesis
    """
    from inference.thesis.checkpoints import import_checkpoints

    import_checkpoints(vae, palette, out, version)
    typer.echo(f"profile {version} of the thesis's method in {out}")
