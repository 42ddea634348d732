"""`depth`: pictures in, a depth map for each out."""

from pathlib import Path

import click


@click.command()
@click.argument("pictures", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for STEM.tif, depth.csv, the effective configuration and the log.",
)
@click.option(
    "--from", "origin", type=click.Choice(["auto", "files", "simulator", "model"]), default="auto",
    show_default=True, help="Camera files (--files), the simulator's (PICTURES/depth), or the "
    "model; auto takes what is there, in this order.",
)  # fmt: skip
@click.option(
    "--files",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of STEM.png, .tif or .npy that a camera left.",
)
@click.option(
    "--unit", type=click.Choice(["auto", "mm", "m", "disparity"]), default="auto",
    show_default=True, help="Of the files: auto takes integers for mm, floats for m.",
)  # fmt: skip
@click.option(
    "--scale", type=float, default=1.0, show_default=True,
    help="Disparity only: focal length (pixels) times baseline (metres); 1 gives relative depth.",
)  # fmt: skip
@click.option(
    "--model",
    help="Depth Anything V2: local folder or hub name. "
    "Default: depth-anything/Depth-Anything-V2-Small-hf (Apache-2.0).",
)
@click.option(
    "--side", type=click.IntRange(14), default=518, show_default=True,
    help="The model's shorter input side, pixels.",
)  # fmt: skip
@click.option("--device", help="As torch names it. Default: a GPU where there is one.")
@click.option(
    "--degrade", type=click.FloatRange(0), default=0.0, show_default=True,
    help="Add the errors of field depth, this strong; 1 is realistic. For the simulator.",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Of --degrade.")
def depth(
    pictures: Path, out: Path, origin: str, files: Path | None, unit: str, scale: float,
    model: str | None, side: int, device: str | None, degrade: float, seed: int,
) -> None:  # fmt: skip
    """Make a depth map for each picture, from camera files or by Depth Anything V2.

    PICTURES is a folder of images, or one with images/ (and depth/) in it. OUT gets STEM.tif:
    float32, metres or relative, larger is farther, NaN unknown (REP-118). Depth that says nothing
    is refused, with the reason in OUT/depth.csv. Started again it goes on where it stood and tries
    refused pictures again; under torchrun every process takes its share.

    \b
    Examples:
      cropseg simulate --random --frames 60 --out out/sim
      python -m training depth out/sim/simulator --out out/depth --degrade 1
      torchrun --nproc-per-node 8 -m training depth photos --model weights/da2-small --out out/depth
    """
    from training.config import configured
    from training.pseudo_labels.depth import DepthConfig, make_depth
    from training.pseudo_labels.depth_anything import DEFAULT_MODEL
    from training.pseudo_labels.runs import default_device, images_of, run_reported

    if files is not None and (model is not None or origin == "model"):
        raise click.UsageError("depth comes from --files or from the model: give one of them")
    if files is None and model is None and origin != "model":
        if (pictures / "depth").is_dir():
            files = pictures / "depth"
        elif origin != "auto":
            raise click.UsageError(f"--from {origin}: give --files, {pictures}/depth is not there")
    values = {
        "images": images_of(pictures), "files": files, "unit": unit, "scale": scale,
        "model": model or DEFAULT_MODEL, "side": side, "degrade": degrade, "seed": seed,
    }  # fmt: skip
    config = configured(values, (), DepthConfig, "depth")
    run_reported(
        lambda progress: make_depth(config, out, device or default_device(), progress), out
    )
