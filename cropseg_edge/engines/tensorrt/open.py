"""The fastest TensorRT engine that was accepted on this device, opened."""

import logging
from functools import partial

import numpy as np

from cropseg_edge.bundle import Bundle
from cropseg_edge.engines.tensorrt.accept import check_verdict, count_loss, first_run
from cropseg_edge.engines.tensorrt.build import build_and_accept, chain
from cropseg_edge.engines.tensorrt.build_process import Step
from cropseg_edge.engines.tensorrt.cache import CachedEngine
from cropseg_edge.engines.tensorrt.fingerprint import fingerprint
from cropseg_edge.engines.tensorrt.path import TensorRtPath
from cropseg_edge.engines.tensorrt.platform import Platform
from cropseg_edge.engines.tensorrt.settings import BuildSettings
from cropseg_edge.errors import DeviceLostError, EngineError

log = logging.getLogger("cropseg_edge.engines.tensorrt")
_SAY_EVERY_S = 10.0


def read_accepted(platform: Platform, bundle: Bundle, precision: str) -> CachedEngine:
    """The cached engine, if it was built for this device and accepted on it.

    Raises:
        EngineError: it may not be used; the message says why.
    """
    here = fingerprint(
        bundle, precision, platform.trt.__version__, platform.device, BuildSettings()
    )
    engine = platform.cache.read(bundle, precision, here)
    check_verdict(engine)
    return engine


def open_accepted(
    platform: Platform,
    bundle: Bundle,
    precision: str | None = None,
    *,
    build_if_missing: bool = False,
) -> TensorRtPath:
    """Open the fastest of the accepted engines and run it once; what fails makes way for the next.

    Args:
        precision: take this one or none.
        build_if_missing: build and try engines where none is accepted. Takes minutes.

    Raises:
        EngineError: there is none; the message has the reason for each precision.
        DeviceLostError: an engine took the GPU down.
    """
    engines: dict[str, CachedEngine] = {}
    reasons: dict[str, str] = {}
    built: list[str] = []
    for name in chain(bundle):
        if precision in (None, name):
            try:
                engines[name] = read_accepted(platform, bundle, name)
            except EngineError as error:
                reasons[name] = str(error)
    if not engines and build_if_missing:
        chosen = () if precision is None else (precision,)

        def say(line: str) -> None:
            built.append(line)
            log.warning(line)

        engines = build_and_accept(platform, bundle, chosen, say=say, tick=_Patience())
        reasons = {}
    for name, engine in sorted(engines.items(), key=lambda item: _latency(item[1])):
        on_lost = partial(count_loss, platform.cache, bundle, name, engine)
        try:
            with first_run(platform.cache, bundle, name, engine):
                return _running(TensorRtPath(platform, bundle, name, engine.plan, on_lost), bundle)
        except DeviceLostError:  # no other engine can be opened in this process
            raise
        except EngineError as error:
            reasons[name] = str(error)
            log.warning("the %s engine cannot be used: %s", name, error)
    said = "; ".join([*built, *(f"{name}: {reason}" for name, reason in reasons.items())])
    raise EngineError(
        f"no TensorRT engine of {bundle.path.name} may be used here: "
        f"{said or f'the bundle has no {precision} graph'}"
        f"{'' if built or '`cropseg ' in said else '. `cropseg build` builds and tries them'}"
    )


def _running(path: TensorRtPath, bundle: Bundle) -> TensorRtPath:
    """The path after one run on a grey picture. Raises EngineError: it failed, and is closed."""
    spec = bundle.manifest.input
    try:
        path.probabilities(np.full((spec.height, spec.width, 3), 128, np.uint8))
    except EngineError:
        path.close()
        raise
    return path


def _latency(engine: CachedEngine) -> float:
    verdict = engine.sidecar.verdict
    return verdict.latency_ms if verdict is not None else float("inf")


class _Patience:
    """Logs the progress of a build now and then."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, step: Step) -> None:
        if step.seconds >= self._next:
            self._next = step.seconds + _SAY_EVERY_S
            log.warning("building for %.0f s: %s", step.seconds, step.phase or "starting")
