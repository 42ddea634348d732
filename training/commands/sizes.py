"""`sizes`: what each network costs."""

import json

import click


@click.command()
@click.option("--width", default=512, show_default=True, help="Pixels; a multiple of 32.")
@click.option("--height", default=512, show_default=True, help="Pixels; a multiple of 32.")
@click.option("--json", "as_json", is_flag=True, help="Parameters and MACs of each part as JSON.")
def sizes(width: int, height: int, as_json: bool) -> None:
    """Print parameters and multiply-accumulates of every size, by part.

    Width and height are what the trunk sees; a size whose stem reads finer pictures gets them that
    much larger.

    \b
    Example:
      python -m training sizes --width 640 --height 480
    """
    from cropseg_edge.errors import ConfigError
    from training.models.cost import cost, total
    from training.models.sizes import SIZES

    if width % 32 or height % 32 or min(width, height) < 32:
        raise ConfigError(f"width and height must be multiples of 32, got {width}x{height}")
    costs = {
        name: cost(size, size.fine * height, size.fine * width) for name, size in SIZES.items()
    }
    if as_json:
        named = {n: {part: c._asdict() for part, c in parts.items()} for n, parts in costs.items()}
        click.echo(json.dumps(named, indent=1))
        return
    parts = list(next(iter(costs.values())))
    click.echo(f"GMAC for one image, {width}x{height} for the trunk")
    click.echo(f"{'size':6} {'params':>9} {'total':>8} " + " ".join(f"{p:>12}" for p in parts))
    for name, own in costs.items():
        parameters, macs = total(own)
        figures = " ".join(f"{own[part].macs / 1e9:12.3f}" for part in parts)
        click.echo(f"{name:6} {parameters / 1e6:7.2f} M {macs / 1e9:8.2f} {figures}")
