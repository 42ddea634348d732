"""Runs a build in a process of its own: what kills it, or crashes it, becomes an EngineError."""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from cropseg_edge.engines.tensorrt.builder import Built
from cropseg_edge.engines.tensorrt.settings import BuildSettings
from cropseg_edge.errors import BundleError, EngineError

TICK_S = 1.0
TOLD_TO_END = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TAIL = 5  # lines of what TensorRT wrote that an error quotes
ADVICE = (
    "close other programs, add swap, or build with less: "
    "`cropseg build --workspace-mb 128 --max-memory 2000 --optimization-level 2`"
)


class Step(NamedTuple):
    """How far a build is.

    Attributes:
        phase: what TensorRT is doing, in its words; empty before it said anything.
        done: steps of the whole that are done.
        of: steps of the whole; 0 where they are not known.
        seconds: since the build began.
    """

    phase: str
    done: int
    of: int
    seconds: float


Tick = Callable[[Step], None]


def build_in_process(
    module: str,
    graph: bytes,
    settings: BuildSettings,
    timing_cache: bytes | None = None,
    tick: Tick | None = None,
    folder: Path | None = None,
) -> Built:
    """Build in a child process; see `builder.build`.

    Args:
        module: name of the TensorRT module.
        graph: the ONNX file.
        settings: of the builder.
        timing_cache: of an earlier build, b"" for a new one, None to go without.
        tick: called about once a second, and at every step.
        folder: an empty one for the files of the build; None takes a temporary one.

    Raises:
        EngineError: the build failed, was killed or crashed; the message says what to do.
        BundleError: TensorRT refuses the graph.
    """
    try:
        with ExitStack() as stack:
            if folder is None:
                temporary = tempfile.TemporaryDirectory(prefix="cropseg-build-")
                folder = Path(stack.enter_context(temporary))
            (folder / "graph.onnx").write_bytes(graph)
            (folder / "settings.json").write_text(settings.model_dump_json())
            if timing_cache is not None:
                (folder / "timing.cache").write_bytes(timing_cache)
            _run(module, folder, tick)
            plan, timings = folder / "engine.plan", folder / "timing.cache"
            return Built(plan.read_bytes(), timings.read_bytes())
    except OSError as error:
        raise EngineError(
            f"the build needs room for temporary files in {folder or tempfile.gettempdir()} and a "
            f"process: {error}; XDG_CACHE_HOME and TMPDIR name other folders"
        ) from error


def _run(module: str, folder: Path, tick: Tick | None) -> None:
    """Let the child build in the folder. Raises EngineError, BundleError, OSError."""
    command = [sys.executable, "-m", "cropseg_edge.engines.tensorrt.child", module, str(folder)]
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,  # `python -m` imports from the current folder first
        start_new_session=True,  # Ctrl-C is for this process, which ends the build
    )
    try:
        error, tail = _follow(child, tick)
        code = child.wait()
    finally:
        child.kill()
        child.wait()
    if error is not None:
        raise error
    if code != 0:
        raise EngineError(_cause(code, tail))


def _follow(
    child: "subprocess.Popen[bytes]", tick: Tick | None
) -> tuple[BundleError | EngineError | None, list[str]]:
    """Read what the child says until it ends: its error, and the last other lines."""
    started, phase, done, of = time.monotonic(), "", 0, 0
    error: BundleError | EngineError | None = None
    tail: list[str] = []
    for line in _lines(child):
        try:
            message = json.loads(line) if line.startswith(b"{") else None
        except ValueError:
            message = None
        if message and "error" in message:
            error = _as_error(message["kind"], message["error"])
        elif message and "phase" in message:
            phase, done, of = message["phase"], message["done"], message["of"]
        elif line:
            tail = [*tail, line.decode(errors="replace").strip()][-TAIL:]
        if tick is not None:
            tick(Step(phase, done, of, time.monotonic() - started))
    return error, tail


def _lines(child: "subprocess.Popen[bytes]") -> Iterator[bytes]:
    """The child's lines as they come; an empty one each second in which none comes."""
    assert child.stdout is not None
    buffer = b""
    with child.stdout as stream, selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            if not selector.select(TICK_S):
                yield b""
                continue
            data = os.read(stream.fileno(), 1 << 16)
            if not data:
                break
            *lines, buffer = (buffer + data).split(b"\n")
            yield from lines
    if buffer:
        yield buffer


def _as_error(kind: str, text: str) -> BundleError | EngineError:
    if kind == "BundleError":
        return BundleError(text)
    said = text.lower()
    about_memory = "memory" in said and "memory access" not in said  # which is a fault of a kernel
    if kind == "MemoryError" or (about_memory and kind != "ImportError"):
        return EngineError(f"out of memory during the build ({text}); {ADVICE}")
    return EngineError(text)


def _cause(code: int, tail: list[str]) -> str:
    said = f" TensorRT's last words: {' | '.join(tail)}" if tail else ""
    if code == -signal.SIGKILL:
        return f"the build was killed, most likely because the memory ran out; {ADVICE}.{said}"
    if -code in TOLD_TO_END:
        return "the build was told to end, as everything is when a service stops"
    if code < 0:
        return f"the build crashed with {signal.Signals(-code).name}; report it.{said}"
    return f"the build ended with code {code} and no engine.{said}"
