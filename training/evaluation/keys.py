"""Keys of what a method's masks depend on, under which they are kept."""

import hashlib


def digest(*parts: bytes | str) -> str:
    """A short key of what decides a method's masks."""
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(part.encode() if isinstance(part, str) else part)
        hashed.update(b"\0")
    return hashed.hexdigest()[:16]
