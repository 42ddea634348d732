"""Acceptance on this device: an engine's verdict and what it cost since, kept in its sidecar."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from functools import partial

from cropseg_edge import __version__
from cropseg_edge.bundle import Bundle
from cropseg_edge.engines.tensorrt.cache import CachedEngine, EngineCache
from cropseg_edge.engines.tensorrt.fingerprint import Sidecar, Verdict
from cropseg_edge.engines.tensorrt.platform import Platform
from cropseg_edge.engines.tensorrt.trial_process import try_in_process
from cropseg_edge.errors import EngineError, StorageError
from cropseg_edge.fade.cuda.driver import kernels_sha256

log = logging.getLogger("cropseg_edge.engines.tensorrt")

MOST_LOSSES = 3  # of the GPU, or of the process; each costs a new process
_START_S = 10.0  # other processes that open the same engine get so long
_starting: list[Callable[[], object]] = []  # each takes back a mark of `first_run`


def accept(
    platform: Platform,
    bundle: Bundle,
    precision: str,
    engine: CachedEngine,
    *,
    must_keep: bool = False,
) -> CachedEngine:
    """Try an engine on the golden frames, in a process of its own, and record what came out.

    An engine whose masks are wrong, or which fails or crashes the process, is quarantined: it is
    not used again until it is built again. One that cannot be loaded, or finds too little memory,
    gets no verdict.

    Args:
        must_keep: a verdict that cannot be recorded is an error, not a warning.

    Returns:
        The engine with its verdict.

    Raises:
        StorageError: with `must_keep`, the verdict cannot be recorded and no earlier one says
            that the engine may be used.
        EngineError: it cannot be loaded, or the memory ran out.
    """
    with first_run(platform.cache, bundle, precision, engine):
        verdict = _verdict(*try_in_process(bundle, precision, engine.plan))
    judged = {"verdict": verdict, "losses": 0, "starts": 0}
    stored = _record(platform.cache, bundle, precision, engine, lambda _: judged, "verdict on")
    if must_keep and verdict.accepted and not (stored or _accepted_before(engine)):
        raise StorageError(
            f"the {precision} engine is right, but that cannot be recorded in "
            f"{platform.cache.folder}, so that it would not be used; free some space there, or set "
            "XDG_CACHE_HOME to a folder that can be written"
        )
    return CachedEngine(engine.plan, engine.sidecar.model_copy(update=judged))


@contextmanager
def first_run(
    cache: EngineCache, bundle: Bundle, precision: str, engine: CachedEngine
) -> Iterator[None]:
    """Around the loading and the first run of an engine: leaves a mark in the sidecar meanwhile.

    Where TensorRT ends the process instead of saying what is wrong, or the memory is so short that
    Linux does, the mark stays; with the third one `check_starts` calls the engine quarantined.
    Whoever is told to end (SIGINT, SIGTERM, SIGHUP) leaves none.
    """
    with ExitStack() as stack:
        waiting = "another process builds or opens the %s engine; waiting for it at most %.0f s"
        say = partial(log.warning, waiting, precision, _START_S)
        try:  # two that start at once must not count each other's marks
            stack.enter_context(cache.lock(bundle, precision, say, _START_S))
        except (EngineError, OSError):  # it is being built again, or nothing can be kept here
            yield
            return
        record = partial(_record, cache, bundle, precision, engine)
        clear = partial(record, lambda _: {"starts": 0}, "start of")
        record(lambda s: {"starts": s.starts + 1}, "start of")
        _starting.append(clear)
        try:
            with _signals_raise():
                yield
        finally:
            _starting.remove(clear)
            clear()


def forget_starts() -> None:
    """Take back this process's marks of `first_run`: it was told to end, and does so at once.

    May be called in any thread; never raises.
    """
    for clear in list(_starting):
        clear()


@contextmanager
def _signals_raise() -> Iterator[None]:
    """SIGTERM and SIGHUP, where nobody handles them, raise SystemExit in the main thread."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    numbers = []
    if threading.current_thread() is threading.main_thread():
        every = (signal.SIGTERM, signal.SIGHUP)
        numbers = [number for number in every if signal.getsignal(number) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def check_starts(engine: CachedEngine) -> None:
    """Raise EngineError where an engine ended its process so often that it is not tried again."""
    if engine.sidecar.starts >= MOST_LOSSES:
        raise EngineError(
            f"it is quarantined: {engine.sidecar.starts} times in a row the process ended while "
            "the engine was loaded or first run; `cropseg build --force` builds it again"
        )


def check_verdict(engine: CachedEngine) -> None:
    """Raise EngineError unless the engine was accepted, by this version and with its kernels."""
    check_starts(engine)
    verdict = engine.sidecar.verdict
    if verdict is None:
        raise EngineError("it has not been tried on this device; run `cropseg verify`")
    if not verdict.accepted:
        raise EngineError(quarantined(verdict))
    if verdict.package != __version__:
        raise EngineError(
            f"it was accepted by cropseg-edge {verdict.package}, this is {__version__}; "
            "run `cropseg verify`"
        )
    if verdict.kernels != kernels_sha256():
        raise EngineError("it was accepted with other kernels; run `cropseg verify`")


def count_loss(
    cache: EngineCache,
    bundle: Bundle,
    precision: str,
    engine: CachedEngine,
    cause: str,
    for_good: bool = False,
) -> None:
    """Record that an accepted engine cost the process; the third time quarantines it.

    It never raises: what cannot be recorded is a warning.

    Args:
        cause: what happened.
        for_good: the engine itself failed, so that it is quarantined at once.
    """

    def lost(sidecar: Sidecar) -> dict[str, object]:
        losses, verdict = sidecar.losses + 1, sidecar.verdict
        if verdict is not None and verdict.accepted and (for_good or losses >= MOST_LOSSES):
            reason = f"it ended {losses} processes since it was accepted: {cause}"
            reason = cause if for_good else reason
            verdict = _verdict(False, reason, verdict.iou, verdict.latency_ms)
        return {"losses": losses, "verdict": verdict}

    _record(cache, bundle, precision, engine, lost, "loss of the GPU with")


def judged_here(verdict: Verdict) -> bool:
    """Whether a verdict was given by this version of the package, with its kernels."""
    return verdict.package == __version__ and verdict.kernels == kernels_sha256()


def quarantined(verdict: Verdict) -> str:
    """What to say of an engine that was not accepted."""
    return (
        f"it is quarantined since {verdict.time} ({verdict.reason}); "
        "`cropseg build --force` builds it again"
    )


def _record(
    cache: EngineCache,
    bundle: Bundle,
    precision: str,
    engine: CachedEngine,
    change: Callable[[Sidecar], dict[str, object]],
    what: str,
) -> bool:
    """Change the sidecar, unless the engine was built again meanwhile; never raises.

    Returns False, after a warning, where it cannot be written.
    """
    try:
        sidecar = cache.sidecar(bundle, precision)
        if sidecar.engine_sha256 == engine.sidecar.engine_sha256:
            cache.update(bundle, precision, sidecar.model_copy(update=change(sidecar)))
    except (EngineError, OSError) as error:
        log.warning("the %s the %s engine is not recorded: %s", what, precision, error)
        return False
    return True


def _accepted_before(engine: CachedEngine) -> bool:
    try:
        check_verdict(engine)
    except EngineError:
        return False
    return True


def _verdict(accepted: bool, reason: str, iou: float, latency_ms: float) -> Verdict:
    return Verdict(
        accepted=accepted,
        reason=reason,
        iou=iou,
        latency_ms=latency_ms,
        package=__version__,
        kernels=kernels_sha256(),
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
