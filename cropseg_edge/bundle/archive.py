"""The zip layer of a bundle: members in, one canonical archive out, and back with every check.

Canonical means: members stored uncompressed in sorted order after the manifest, fixed timestamps
and attributes, nothing else. Reading writes the archive again from what was read and compares: a
single changed byte anywhere is refused, and there is nothing to decompress.
"""

import io
import stat
import zipfile

from cropseg_edge.bundle.manifest import is_safe_member
from cropseg_edge.errors import BundleError

MANIFEST = "manifest.json"
MAX_BYTES = 512 * 1024 * 1024
MAX_MEMBERS = 64

_EPOCH = (1980, 1, 1, 0, 0, 0)
_MODE = (stat.S_IFREG | 0o644) << 16
_ENCRYPTED = 0x1
_ZIP_ERRORS = (
    zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, OSError,
    IndexError, OverflowError,
)  # fmt: skip


def pack(members: dict[str, bytes]) -> bytes:
    """Members as one canonical archive; the same members always give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members, key=lambda name: (name != MANIFEST, name)):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system, info.external_attr = 3, _MODE
            archive.writestr(info, members[name])
    return buffer.getvalue()


def unpack(data: bytes, label: str) -> dict[str, bytes]:
    """Members of a canonical archive, in memory; nothing is extracted to disk.

    Args:
        data: the whole file.
        label: how messages name the file.

    Raises:
        BundleError: not a zip, truncated, changed, or with a member that must not be there.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except _ZIP_ERRORS as error:
        raise BundleError(
            f"{label} is not a bundle or is truncated ({error}); copy it again"
        ) from error
    with archive:
        _check_entries(archive.infolist(), label)
        try:
            members = {info.filename: archive.read(info) for info in archive.infolist()}
        except _ZIP_ERRORS as error:
            raise BundleError(f"{label} is damaged ({error}); copy it again") from error
    if pack(members) != data:
        raise BundleError(
            f"{label} is damaged or was repacked: these are not a bundle's bytes; copy it again"
        )
    return members


def _check_entries(entries: list[zipfile.ZipInfo], label: str) -> None:
    names = [entry.orig_filename for entry in entries]
    if len(names) > MAX_MEMBERS:
        raise BundleError(f"{label} has {len(names)} members; a bundle has at most {MAX_MEMBERS}")
    if len(set(names)) != len(names):
        raise BundleError(f"{label} has two members of one name; this is not a bundle of ours")
    if sum(entry.file_size for entry in entries) > MAX_BYTES:
        raise BundleError(f"{label} unpacks to more than {MAX_BYTES >> 20} MB; refused")
    for entry in entries:
        name = entry.orig_filename
        if not is_safe_member(name):
            raise BundleError(f"{label} has a member with an unsafe name: {name[:80]!r}; refused")
        if entry.flag_bits & _ENCRYPTED:
            raise BundleError(f"{label} has an encrypted member {name}; bundles are plain")
        if entry.external_attr != _MODE:
            raise BundleError(f"{label} has a member that is not a plain file: {name}; refused")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise BundleError(f"{label} has a compressed member {name}; bundles store them plain")
