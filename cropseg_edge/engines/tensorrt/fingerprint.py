"""What an engine was built from and for, and the sidecar file that says so."""

import hashlib
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from cropseg_edge.bundle import Bundle
from cropseg_edge.engines.tensorrt.device import Device
from cropseg_edge.engines.tensorrt.settings import BuildSettings
from cropseg_edge.errors import EngineError


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Fingerprint(_Model):
    """Everything that decides whether a cached engine may be used here."""

    bundle_sha256: str
    graph_sha256: str
    precision: str
    input_shape: str
    tensorrt: str
    cuda: str
    driver: str
    device: str
    compute_capability: str
    multiprocessors: int = 0  # this and the board: not in files of earlier versions
    board: str = ""
    l4t: str
    settings: BuildSettings

    def differences(self, other: "Fingerprint") -> list[str]:
        """Where another one differs, both values named: "tensorrt is 10.16.2, was 10.3.0"."""
        pairs = zip(self, other, strict=True)
        return [
            f"{name} is {mine or 'none'}, was {theirs or 'none'}"
            for (name, mine), (_, theirs) in pairs
            if mine != theirs
        ]


class Verdict(_Model):
    """What the golden frames said about an engine on this device.

    Attributes:
        accepted: it may be used; otherwise it is quarantined.
        reason: why not; empty when accepted.
        iou: of the masks, the lowest of the golden frames.
        latency_ms: median of a whole frame, from picture to labels.
        package: version of this package.
        kernels: SHA-256 of the record of the FADE kernels that took part; empty in older files.
        time: of the check, ISO 8601.
    """

    accepted: bool
    reason: str
    iou: float
    latency_ms: float
    package: str
    kernels: str = ""
    time: str


class Sidecar(_Model):
    """The JSON file beside an engine.

    Attributes:
        fingerprint: what the engine was built from and for.
        engine_sha256: of the engine file.
        built: when, ISO 8601.
        build_seconds: how long it took.
        verdict: None before the golden frames were run.
        losses: how often the GPU was lost with this engine since it was accepted.
        starts: how often in a row a process began to use it and never came to the end of the
            first run.
    """

    format: Literal[1] = 1
    fingerprint: Fingerprint
    engine_sha256: str
    built: str
    build_seconds: float
    verdict: Verdict | None = None
    losses: int = 0
    starts: int = 0

    @classmethod
    def parse(cls, data: bytes) -> "Sidecar":
        """Read the JSON. Raises EngineError: it is damaged or of another version."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise EngineError(f"its sidecar is damaged ({where}: {first['msg']})") from None


def fingerprint(
    bundle: Bundle, precision: str, tensorrt: str, device: Device, settings: BuildSettings
) -> Fingerprint:
    """The fingerprint of an engine for here and now.

    Raises:
        BundleError: the bundle has no graph of that precision.
    """
    spec = bundle.manifest.input
    return Fingerprint(
        bundle_sha256=bundle.sha256,
        graph_sha256=hashlib.sha256(bundle.graph("tensorrt", precision)).hexdigest(),
        precision=precision,
        input_shape=f"1x3x{spec.height}x{spec.width}",
        tensorrt=tensorrt,
        cuda=device.cuda,
        driver=device.driver,
        device=device.name,
        compute_capability=device.compute_capability,
        multiprocessors=device.multiprocessors,
        board=device.board,
        l4t=device.l4t,
        settings=settings,
    )
