"""`fullfield evaluate`: score a profile on a paired data set."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A paired data set: full/, collimated/ and pairs.csv.")],
    profile: Annotated[str, typer.Option(metavar="NAME", help="The model profile to score.")] = "fullfield",
    models: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of profiles; without it those that come with Fullfield."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only this split of pairs.csv, such as val.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    genesis: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Weights of Models Genesis, for the LPIPS column.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Score a profile: error, structure, sharpness and the truth of its intervals.

    Example: fullfield evaluate data/pairs --split val --json
    """
    from rich.console import Console
    from rich.progress import track

    from inference.reconstruct import Reconstructor, choose_device
    from inference.weights import MODELS, load_weights
    from training.evaluate import evaluate as score
    from training.pairs import read_pairs
    from training.perceptual import load_encoder

    encoder = None if genesis is None else load_encoder(genesis)
    pairs = read_pairs(folder, split)
    weights = load_weights(profile, models or MODELS)
    reconstructor = Reconstructor(weights, choose_device(device))
    console = Console(stderr=True)
    figures = score(pairs, reconstructor, lambda items: track(items, "Evaluating", console=console), encoder)
    figures["model"] = {"profile": weights.profile, "version": weights.version, "digest": weights.digest}
    typer.echo(json.dumps(figures, indent=1, allow_nan=False) if as_json else _table(figures))


def _table(figures: dict[str, Any]) -> str:
    from training.perceptual import WITHOUT_WEIGHTS

    lpips = {mode: figures["thesis"][mode]["lpips"] for mode in figures["thesis"]}
    lines = [f"{figures['count']} pairs" + (f"; {WITHOUT_WEIGHTS}" if None in lpips.values() else "")]
    for mode in figures["thesis"]:
        thesis, generated = figures["thesis"][mode], figures["generated"][mode]
        lines.append(
            f"{mode:7} thesis MSE {thesis['mse']['mean']:.4f}  SSIM {thesis['ssim']['mean']:.4f}   "
            + (f"LPIPS {lpips[mode]['mean']:.4f}   " if lpips[mode] else "")
            + f"generated MSE {generated['mse']:.4f}  SSIM {generated['ssim']:.4f}  PSNR {generated['psnr']:.2f} dB   "
            f"spectrum {figures['spectrum'][mode]:.3f}   {figures['seconds_per_frame'][mode]:.3f} s a frame"
        )
    aperture = figures["aperture_iou"]
    lines.append(f"aperture IoU mean {aperture['mean']:.4f}, worst {aperture['min']:.4f}")
    lines.append(f"90 % intervals cover {figures['coverage90']:.1%}, mean width {figures['interval_width90']:.3f}")
    ratio, explained = figures["sample_over_mean_mse"], figures["residual"]["explained"]
    if ratio is not None:
        lines.append(f"a draw's MSE is {ratio:.2f} times the best estimate's")
    if explained is not None:
        lines.append(f"the faint picture behind the blades takes {explained:.0%} of the error away")
    return "\n".join(lines)
