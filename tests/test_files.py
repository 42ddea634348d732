"""Files are whole or not there, and who asks before long work learns what would go wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cropseg_edge.files import check_writable, write_atomically


def make_folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def make_orphan(tmp_path: Path) -> Path:
    return tmp_path / "missing" / "a.json"


@pytest.mark.parametrize("make", [make_folder, make_orphan])
def test_an_error_names_the_file_and_nothing_else(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path)
    for ask in (check_writable, lambda path: write_atomically(path, b"")):
        with pytest.raises(OSError, match="directory") as caught:
            ask(path)
        assert str(caught.value).endswith(f"directory: '{path}'")
        assert caught.value.filename == str(path)
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]


def test_a_device_is_not_replaced() -> None:
    with pytest.raises(OSError, match="would be replaced"):
        check_writable(Path("/dev/null"))


def test_asking_leaves_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    check_writable(path)
    assert not list(tmp_path.iterdir())
    path.write_text("old")
    check_writable(path)
    assert path.read_text() == "old"
