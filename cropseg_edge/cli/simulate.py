"""`cropseg simulate`: writes a simulated drive, random training frames or a contact sheet."""

from pathlib import Path

import click
from click.core import ParameterSource


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder to write.")
@click.option("--frames", type=click.IntRange(1), default=100, show_default=True)
@click.option("--species", default="maize", show_default=True, help="maize, beet, cereal, ...")
@click.option(
    "--condition", default="sun", show_default=True, help="sun, shade, cloud, dusk, night."
)
@click.option("--camera", default="oblique", show_default=True, help="oblique or nadir.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--width", type=click.IntRange(16, 8192), default=640, show_default=True)
@click.option("--height", type=click.IntRange(16, 8192), default=480, show_default=True)
@click.option("--rate-hz", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True)
@click.option("--speed", type=float, default=0.5, show_default=True, help="Metres per second.")
@click.option("--random", "scattered", is_flag=True, help="Every frame another random scene.")
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Processes that draw, with --random.",
)
@click.option("--sheet", type=click.Path(path_type=Path, dir_okay=False), help="Contact sheet.")
def simulate(
    out: Path | None, frames: int, species: str, condition: str, camera: str, seed: int,
    width: int, height: int, rate_hz: float, speed: float, scattered: bool, workers: int,
    sheet: Path | None,
) -> None:  # fmt: skip
    """Draw a crop field with ground truth.

    OUT gets images/, masks/ (0 background, 1 crop, 2 weed), depth/ (16 bit, millimetres) and
    poses.csv. With --random, OUT becomes a training root (simulator/images, splits.csv,
    datasets.yaml), and a run that was cut off goes on where it stopped.

    \b
    Examples:
      cropseg simulate --out out/beets --frames 50 --species beet --condition dusk
      cropseg simulate --random --frames 1000 --workers 4 --out runs/simulated
      cropseg simulate --sheet fields.jpg
    """
    from cropseg_edge.errors import ConfigError
    from cropseg_edge.simulator.field import FieldSimulator
    from cropseg_edge.simulator.sheet import contact_sheet
    from cropseg_edge.simulator.write import (
        check_image_name,
        write_drive,
        write_image,
        write_training_root,
    )

    if out is None and sheet is None:
        raise ConfigError("simulate writes to --out DIR or --sheet FILE; got neither")
    if sheet is not None:
        check_image_name(sheet)
        write_image(sheet, contact_sheet(seed))
        click.echo(f"contact sheet: {sheet}")
    if out is None:
        return
    if workers > 1 and not scattered:
        raise ConfigError("--workers goes with --random: a drive is drawn frame by frame")
    if scattered:
        context = click.get_current_context()
        for name in ("species", "condition", "camera", "rate_hz", "speed"):
            if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                option = name.replace("_", "-")
                raise ConfigError(f"--random draws every scene itself: leave out --{option}")
        written = write_training_root(out, frames, seed, width, height, workers)
    else:
        simulator = FieldSimulator(species, condition, camera, seed, width, height, rate_hz, speed)
        written = write_drive(out, simulator, frames)
    for index in written:
        if (index + 1) % 100 == 0 or index + 1 == frames:
            click.echo(f"{index + 1}/{frames} frames in {out}")
