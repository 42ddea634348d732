"""All checks in order: a machine goes in, findings come out, whatever happens in a check."""

from collections.abc import Callable, Iterator

from cropseg_edge.doctor import board, cameras, gpu, packages, power, storage
from cropseg_edge.doctor.finding import Finding, Status
from cropseg_edge.doctor.known import known
from cropseg_edge.doctor.system import System

Check = Callable[[System], Finding | list[Finding]]


CHECKS: dict[str, Check] = {
    "board": board.board,
    "jetpack": board.jetpack,
    "power mode": power.power_mode,
    "clocks": power.clocks,
    "thermal": power.thermal,
    "memory": storage.memory,
    "python": packages.python,
    "numpy": packages.numpy,
    "opencv": packages.opencv,
    "simplejpeg": packages.simplejpeg,
    "onnxruntime": packages.onnxruntime,
    "bundle": packages.bundle,
    "fade": packages.fade,
    "cuda": gpu.cuda,
    "tensorrt": gpu.tensorrt,
    "pycuda": gpu.pycuda,
    "fade cuda": gpu.cuda_fade,
    "engines": storage.engines,
    "ros 2": packages.ros,
    "cameras": cameras.cameras,
}


def examine(system: System) -> Iterator[Finding]:
    """Run every check, then look its findings up in the table of known problems.

    A check that breaks is a finding of its own and does not hide the others.
    """
    found: dict[str, Finding] = {}
    for name, check in CHECKS.items():
        for finding in _results(name, lambda check=check: check(system)):  # type: ignore[misc]
            found[finding.check] = finding
            yield finding
    yield from _results("known", lambda: known(found, system))


def _results(name: str, check: Callable[[], Finding | list[Finding]]) -> list[Finding]:
    try:
        results = check()
    except Exception as error:  # one broken check must not hide what the others find
        text = f"this check itself failed: {type(error).__name__}: {error}"
        return [Finding(name, Status.WARN, text, "please report it, with --json")]
    return results if isinstance(results, list) else [results]


def broken(findings: list[Finding]) -> bool:
    """Whether something is broken that stops `cropseg run`."""
    return any(finding.status is Status.FAIL for finding in findings)
