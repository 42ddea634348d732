"""`cropseg doctor`: what this machine has, what of it works, and what to do about the rest."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cropseg_edge.cli.options import check_json_file, json_option, write_json

if TYPE_CHECKING:
    from cropseg_edge.doctor import Finding

BROKEN = 1
_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", "absent": "bright_black"}


@click.command()
@json_option
def doctor(json_file: Path | None) -> int:
    """Examine this machine: board, JetPack, power, memory, CUDA, TensorRT, ROS 2, cameras.

    \b
    ok      there, and it works: imports are imported, providers of ONNX Runtime run a model
    warn    `cropseg run` works, but slower, or something beside it does not; with the remedy
    fail    broken: `cropseg run` cannot work until it is mended; with the remedy
    absent  not there, and not needed on this machine

    Exit code: 0 nothing is broken, 1 at least one `fail`, 2 the file cannot be written. Nothing
    is changed, and every part that may crash or hang is examined in a process of its own.

    \b
    Examples:
      cropseg doctor
      cropseg doctor --json doctor.json
      cropseg doctor --json - | python3 -m json.tool
    """
    from cropseg_edge.doctor import System, broken, examine

    table = not check_json_file(json_file)
    findings = []
    for finding in examine(System()):
        findings.append(finding)
        if table:
            _show(finding)
    failed = broken(findings)
    if table:
        warnings = sum(finding.status.value == "warn" for finding in findings)
        verdict = "`cropseg run` cannot work here yet" if failed else "`cropseg run` can work here"
        click.echo(f"{verdict}; {warnings} warning{'' if warnings == 1 else 's'}")
    if json_file is not None:
        _write(json_file, findings, failed)
    return BROKEN if failed else 0


def _show(finding: Finding) -> None:
    word = click.style(f"{finding.status.value:<7}", fg=_COLOURS[finding.status.value])
    click.echo(f"{word} {finding.check:<12} {finding.found}")
    if finding.remedy:
        click.echo(textwrap.indent(finding.remedy, " " * 21 + "> "))
    for source in finding.sources:
        click.echo(" " * 21 + f"see {source}")


def _write(path: Path, findings: list[Finding], failed: bool) -> None:
    from datetime import datetime, timezone

    from cropseg_edge.sinks.versions import versions

    document = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": versions(),
        "broken": failed,
        "findings": [finding.as_json() for finding in findings],
    }
    write_json(path, document)
