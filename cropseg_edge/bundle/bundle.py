"""A bundle: the model file NAME.cropseg, written whole or not at all, read with every check."""

import hashlib
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from cropseg_edge.bundle.archive import MANIFEST, MAX_BYTES, pack, unpack
from cropseg_edge.bundle.manifest import EngineName, Manifest, Precision
from cropseg_edge.bundle.onnx_scan import refuse_external_data
from cropseg_edge.errors import BundleError
from cropseg_edge.files import write_atomically

SUFFIX = ".cropseg"
ONE = 65520  # level of probability 1 in a golden frame


@dataclass(frozen=True)
class Bundle:
    """A checked bundle, in memory.

    Attributes:
        manifest: what the bundle says about itself.
        sha256: hex digest of the whole file.
        path: where it was read from.
    """

    manifest: Manifest
    sha256: str
    path: Path
    members: dict[str, bytes] = field(repr=False)

    def graph(self, engine: str = "onnxruntime", precision: str = "fp32") -> bytes:
        """The ONNX graph for an engine: its own one, or the reference graph where it has none.

        Args:
            engine: onnxruntime or tensorrt.
            precision: fp32, fp16 or int8.

        Raises:
            BundleError: the engine is unknown, or the bundle has no graph of that precision.
        """
        name = _engine_name(engine)
        manifest = self.manifest
        if precision not in manifest.precisions(name):
            raise BundleError(
                f"{self.path.name} has no {precision} graph for {engine}, but "
                f"{', '.join(manifest.precisions(name))}; `python -m calibration quantize` adds one"
            )
        if precision == "fp16" or precision == "int8":
            return self.members[manifest.reduced[name][precision]]
        return self.members[manifest.graphs.get(name, manifest.graphs["onnxruntime"])]

    def default_precision(self, engine: str = "onnxruntime") -> Precision:
        """The precision that an engine runs unless it is told otherwise. Raises BundleError."""
        return self.manifest.default_precision.get(_engine_name(engine), "fp32")

    def golden(self) -> list[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
        """The golden frames: (BGR uint8 [H, W, 3], reference probabilities float32 [3, h, w]).

        The probabilities are on the network's grid (letterboxed input, after FADE).

        Raises:
            BundleError: a golden frame cannot be decoded or has the wrong shape.
        """
        return [
            (self._image(frame.image), self._probabilities(frame.probabilities))
            for frame in self.manifest.golden
        ]

    def _image(self, name: str) -> NDArray[np.uint8]:
        import cv2

        return np.asarray(self._png(name, cv2.IMREAD_COLOR), dtype=np.uint8)

    def _probabilities(self, name: str) -> NDArray[np.float32]:
        import cv2

        array = self._png(name, cv2.IMREAD_UNCHANGED)
        if array.dtype != np.uint16 or array.ndim != 3 or array.shape[2] != 3:
            raise BundleError(
                f"{self.path.name}: {name} must be a PNG of three channels of 16 bits, "
                f"got {array.dtype} {list(array.shape)}"
            )
        levels = array.transpose(2, 0, 1).astype(np.float32, order="C")
        return np.asarray(levels / np.float32(ONE))

    def _png(self, name: str, flags: int) -> NDArray[Any]:
        import cv2

        data = np.frombuffer(self.members[name], np.uint8)
        image = cv2.imdecode(data, flags) if data.size else None
        if image is None:
            raise BundleError(f"{self.path.name}: {name} is not a readable PNG; export it again")
        return np.asarray(image)


def encode_probabilities(probabilities: NDArray[np.float32]) -> bytes:
    """A golden frame's reference probabilities float32 [3, h, w] as a PNG, to 1/1024: 16 bits,
    65520 being 1, the classes in OpenCV's order of the channels (blue is background)."""
    levels = np.minimum(np.rint(probabilities * (ONE / 64)) * 64, ONE).astype(np.uint16)
    return encode_png(np.ascontiguousarray(levels.transpose(1, 2, 0)))


def encode_png(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """The smallest PNG of a golden frame's picture or levels."""
    import cv2

    smallest = (cv2.IMWRITE_PNG_COMPRESSION, 9, cv2.IMWRITE_PNG_STRATEGY, 1)
    return cv2.imencode(".png", pixels, smallest)[1].tobytes()


def shipped_bundle() -> Path:
    """Path of the bundle inside this package (it may be absent in a development checkout)."""
    return Path(__file__).with_name("nano" + SUFFIX)


def read_bundle(path: Path | str | None = None) -> Bundle:
    """Read and check a bundle: archive, manifest, hashes, graphs. Nothing is written to disk.

    Args:
        path: the bundle; None takes the one that ships with the package.

    Raises:
        BundleError: missing, damaged, tampered with, or not understood; the message says which.
    """
    source = shipped_bundle() if path is None else Path(path)
    try:
        status = source.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{source} is not a file; a bundle is one file NAME{SUFFIX}")
        if (size := status.st_size) > MAX_BYTES:
            raise BundleError(
                f"{source} has {size >> 20} MB; a bundle has at most {MAX_BYTES >> 20}"
            )
        data = source.read_bytes()
    except FileNotFoundError:
        hint = (
            "this installation ships none; pass one with --bundle"
            if path is None
            else "check the path"
        )
        raise BundleError(f"no bundle at {source}; {hint}") from None
    except (OSError, ValueError) as error:
        raise BundleError(f"cannot read the bundle {source}: {error}") from error
    return parse_bundle(data, source)


def parse_bundle(data: bytes, path: Path) -> Bundle:
    """Check the bytes of a bundle; `path` only names it in messages. Raises BundleError."""
    label = path.name
    members = unpack(data, label)
    if MANIFEST not in members:
        raise BundleError(f"{label} has no {MANIFEST}; it is not a bundle")
    manifest = _parse_manifest(members.pop(MANIFEST), label)
    _check_members(manifest, members, label)
    for name in set(manifest.graph_members()):
        refuse_external_data(members[name], f"{label}: {name}")
    return Bundle(manifest, hashlib.sha256(data).hexdigest(), path, members)


def write_bundle(path: Path | str, manifest: Manifest, members: dict[str, bytes]) -> Bundle:
    """Write a bundle: hashes are computed, the result is checked, then renamed into place.

    Args:
        path: the file to write; an existing one is replaced.
        manifest: without hashes (`sha256` is overwritten).
        members: content of every member but the manifest, by name.

    Returns:
        The bundle as `read_bundle` would give it.

    Raises:
        BundleError: the reader would refuse the result, or the file cannot be written.
    """
    target = Path(path)
    digests = {name: hashlib.sha256(members[name]).hexdigest() for name in sorted(members)}
    complete = manifest.model_copy(update={"sha256": digests})
    text = complete.model_dump_json(indent=2).encode() + b"\n"
    data = pack({MANIFEST: text, **members})
    bundle = parse_bundle(data, target)
    try:
        write_atomically(target, data)
    except OSError as error:
        raise BundleError(f"cannot write the bundle {target}: {error}") from error
    return bundle


def _engine_name(engine: str) -> EngineName:
    if engine == "onnxruntime":
        return "onnxruntime"
    if engine == "tensorrt":
        return "tensorrt"
    raise BundleError(f"engine must be onnxruntime or tensorrt, got {engine!r}")


def _parse_manifest(text: bytes, label: str) -> Manifest:
    try:
        return Manifest.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or MANIFEST
        raise BundleError(
            f"{label}: manifest not understood at {key}: {first['msg']} "
            f"({error.error_count()} in all); damaged, or made for another version"
        ) from error


def _check_members(manifest: Manifest, members: dict[str, bytes], label: str) -> None:
    for name in (*manifest.referenced_members(), *manifest.sha256):
        if name not in members or name not in manifest.sha256:
            raise BundleError(f"{label}: {name} is named in the manifest but missing")
    for name, content in members.items():
        expected = manifest.sha256.get(name)
        if expected is None:
            raise BundleError(f"{label}: member {name} is not in the manifest; refused")
        found = hashlib.sha256(content).hexdigest()
        if found != expected:
            raise BundleError(
                f"{label}: {name} has hash {found[:12]}, the manifest says {expected[:12]}; "
                "it was changed after it was made"
            )
