"""`cropseg build`: TensorRT engines of a bundle, built and tried on this device."""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cropseg_edge.bundle import Bundle
    from cropseg_edge.engines.tensorrt.platform import Platform


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(["fp32", "fp16", "int8"]),
    help="Build this one (may be repeated); default: int8 and fp16, fp32 only if both fail.",
)
@click.option(
    "--workspace-mb",
    type=click.IntRange(16, 65536),
    help="Scratch memory that a layer of the engine may use.  [default: 512]",
)
@click.option(
    "--max-memory",
    type=click.IntRange(0, 1 << 20),
    help="MB that the build may use in all; default: TensorRT's own limit.",
)
@click.option(
    "--optimization-level",
    type=click.IntRange(0, 5),
    help="0 builds fast, 5 searches long.  [default: 3]",
)
@click.option("--force", is_flag=True, help="Build again what is there; ends a quarantine.")
def build(
    bundle: Path | None,
    precisions: tuple[str, ...],
    workspace_mb: int | None,
    max_memory: int | None,
    optimization_level: int | None,
    force: bool,
) -> None:
    """Build the TensorRT engines of BUNDLE (default: the shipped one) on this device.

    Takes minutes, once: engines are kept in ~/.cache/cropseg/engines (or under XDG_CACHE_HOME)
    and built again when TensorRT, the driver, the device or the bundle change, or where one of
    the settings above is given and differs (those left out are then the defaults). Each one is
    tried on the bundle's golden frames and used only if its masks are right. Where a build fails,
    an engine that was accepted before stays. Fails with exit code 2 where none of those asked for
    may be used.

    Never run on a Jetson so far: please report what happens.

    \b
    Examples:
      cropseg build
      cropseg build my_model.cropseg --precision fp16
      cropseg build --workspace-mb 128 --max-memory 2000   # a board with 8 GB
    """
    from cropseg_edge.bundle import read_bundle
    from cropseg_edge.engines.tensorrt.build import build_and_accept
    from cropseg_edge.engines.tensorrt.build_process import Step
    from cropseg_edge.engines.tensorrt.platform import load_platform
    from cropseg_edge.engines.tensorrt.settings import BuildSettings
    from cropseg_edge.errors import EngineError

    terminal = sys.stderr.isatty()
    last = -10.0

    def tick(step: Step) -> None:
        nonlocal last
        share = f"{100 * step.done // step.of:3d} %  " if step.of else ""
        if terminal:
            line = f"{step.seconds:5.0f} s  {share}{step.phase or 'starting'}"
            click.echo(f"\r{line[:78]:<78}\r", err=True, nl=False)
        elif step.seconds >= last + 10 or step.seconds < last:
            last = step.seconds
            click.echo(f"{step.seconds:5.0f} s  {share}{step.phase or 'starting'}", err=True)

    checked = read_bundle(bundle)
    platform = load_platform()
    device = platform.device
    click.echo(
        f"{checked.manifest.name} for {device.name} (compute capability "
        f"{device.compute_capability}), TensorRT {platform.trt.__version__}, CUDA {device.driver}"
    )
    settings = {
        "workspace_mb": workspace_mb,
        "max_memory_mb": max_memory,
        "optimization_level": optimization_level,
    }
    given = {name: value for name, value in settings.items() if value is not None}
    accepted = build_and_accept(
        platform,
        checked,
        precisions,
        BuildSettings.model_validate(given) if given else None,
        force=force,
        must_keep=True,
        say=click.echo,
        tick=tick,
    )
    if not accepted:
        others = ", ".join(_usable(platform, checked))
        goes_on = f"{others}, accepted before" if others else "ONNX Runtime"
        raise EngineError(
            f"no TensorRT engine of {checked.path.name} was accepted, for the reasons above; "
            f"`--engine auto` goes on with {goes_on}"
        )
    click.echo(f"ready: {', '.join(accepted)}; `--engine auto` takes the fastest")


def _usable(platform: "Platform", bundle: "Bundle") -> list[str]:
    """The precisions whose engines may be used here."""
    from cropseg_edge.engines.tensorrt.build import chain
    from cropseg_edge.engines.tensorrt.open import read_accepted
    from cropseg_edge.errors import EngineError

    usable = []
    for precision in chain(bundle):
        with contextlib.suppress(EngineError):
            read_accepted(platform, bundle, precision)
            usable.append(precision)
    return usable
