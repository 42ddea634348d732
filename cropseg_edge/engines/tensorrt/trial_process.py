"""Tries an engine in a process of its own: what crashes it says something of the engine alone."""

import json
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Any, NamedTuple

from cropseg_edge.bundle import Bundle
from cropseg_edge.engines.tensorrt.build_process import TAIL, TOLD_TO_END
from cropseg_edge.errors import DeviceMemoryError, EngineError


class Outcome(NamedTuple):
    """What a trial found; see `Verdict`."""

    accepted: bool
    reason: str
    iou: float
    latency_ms: float


def try_in_process(bundle: Bundle, precision: str, plan: bytes) -> Outcome:
    """Run the golden frames in a child process; see `acceptance.try_out`.

    Returns:
        What came out; not accepted where TensorRT crashed with the engine.

    Raises:
        EngineError: the engine cannot be loaded, or the trial was told to end.
        DeviceMemoryError: the memory ran out.
    """
    module = "cropseg_edge.engines.tensorrt.trial"
    path = str(bundle.path.absolute())
    command = [sys.executable, "-m", module, path, bundle.sha256, precision]
    try:
        done = subprocess.run(
            command,
            input=plan,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",  # `python -m` imports from the current folder first
            start_new_session=True,  # Ctrl-C is for this process, which ends the trial
        )
    except OSError as error:
        raise EngineError(
            f"the engine is tried in a process, which cannot start: {error}"
        ) from error
    lines = [line for line in done.stdout.decode(errors="replace").splitlines() if line.strip()]
    if done.returncode == -signal.SIGKILL:
        raise DeviceMemoryError(
            "the trial was killed, most likely because the memory ran out; close other programs"
        )
    if -done.returncode in TOLD_TO_END:
        raise EngineError("the trial was told to end, as everything is when a service stops")
    if done.returncode != 0 or not lines:
        end = f"code {done.returncode}"
        if done.returncode < 0:
            end = signal.Signals(-done.returncode).name
        said = f"; its last words: {' | '.join(lines[-TAIL:])}" if lines else ""
        return Outcome(False, f"TensorRT crashed with {end}{said}", 0.0, 0.0)
    found = _last_object(lines)
    if "error" in found:
        out_of_memory = found["kind"] in ("DeviceMemoryError", "MemoryError")
        raise (DeviceMemoryError if out_of_memory else EngineError)(found["error"])
    return Outcome(**found)


def _last_object(lines: list[str]) -> dict[str, Any]:
    """The outcome among what TensorRT and others wrote. Raises EngineError where there is none."""
    for line in reversed(lines):
        with suppress(ValueError):
            if isinstance(found := json.loads(line), dict):
                return found
    raise EngineError(f"the trial said nothing of its outcome: {' | '.join(lines[-TAIL:])}")
