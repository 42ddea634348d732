"""A folder of images as a source, in the order in which a person would sort the names."""

import logging
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cropseg_edge.errors import FrameError
from cropseg_edge.frames.frame import Frame
from cropseg_edge.frames.image import IMAGE_SUFFIXES, read_image

_LOG = logging.getLogger("cropseg_edge.frames")
_DEFAULT_RATE_HZ = 10.0


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key that puts frame_9 before frame_10."""
    parts = re.split(r"(\d+)", name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


class FolderSource:
    """Gives the images that lie in a folder itself; subfolders and hidden files are left out.

    Stamps count from 0 at `rate_hz`. A frame's name is the file's stem, or the stem with the
    suffix (`a_png`) where two files share it; no two frames have the same name.
    """

    def __init__(self, path: Path, *, rate_hz: float | None = None) -> None:
        """
        Raises:
            FrameError: the folder cannot be listed or has no images.
        """
        self.name = str(path)
        self.rate_hz: float | None = rate_hz or _DEFAULT_RATE_HZ
        self.failed = 0
        try:
            files = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
        except OSError as error:
            raise FrameError(f"folder {path} cannot be read: {error.strerror}") from error
        self._paths = sorted(
            (file for file in files if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()),
            key=lambda file: natural_key(file.name),
        )
        if not self._paths:
            raise FrameError(
                f"folder {path} has no images ({' '.join(IMAGE_SUFFIXES)}) among its "
                f"{len(files)} entries, and no metadata.yaml that would make it a ROS 2 bag"
            )

    def __iter__(self) -> Iterator[Frame]:
        period_ns = 1e9 / (self.rate_hz or _DEFAULT_RATE_HZ)
        for sequence, (path, name) in enumerate(zip(self._paths, self._names(), strict=True)):
            try:
                image = read_image(path)
            except FrameError as error:
                self.failed += 1
                _LOG.warning("%s; skipped", error)
                continue
            yield Frame(
                image=image,
                stamp_ns=round(sequence * period_ns),
                frame_id="camera",
                sequence=sequence,
                name=name,
            )
        if self.failed == len(self._paths):
            raise FrameError(f"none of the {self.failed} images in {self.name} can be read")

    def _names(self) -> list[str]:
        stems = Counter(path.stem for path in self._paths)
        taken = {stem for stem, count in stems.items() if count == 1}
        names = []
        for path in self._paths:
            name = path.stem
            if stems[name] > 1:
                name = path.name.replace(".", "_")
                while name in taken:
                    name += "_"
                taken.add(name)
            names.append(name)
        return names

    def close(self) -> None:
        """Nothing to free."""
