"""Every command in README.md, docs/ and helps exists, with every option, argument and value."""

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cropseg_edge.bundle import read_bundle

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GROUPS = {
    "cropseg": "cropseg_edge.cli.main",
    "python -m training": "training.__main__",
    "python -m calibration": "calibration.__main__",
}
_COMMAND = re.compile(r"(cropseg|python3? -m (training|calibration)|python3? benchmarks/\S+)(\s|$)")
_INLINE = re.compile(r"`([^`\n]+)`")
_BLOCK = re.compile(r"^(?:```|~~~)\w*\n(.*?)^(?:```|~~~)$", re.DOTALL | re.MULTILINE)


def commands() -> Iterator[tuple[str, str]]:
    """(page:line of the page, command), from code blocks, indented ones and inline code."""
    for page in PAGES:
        text = page.read_text()
        inside = "\n".join(match[1] for match in _BLOCK.finditer(text))
        outside = _BLOCK.sub("", text)
        inside += "\n" + "\n".join(line for line in outside.splitlines() if line[:4] == "    ")
        written = inside.replace("\\\n", " ").splitlines() + _INLINE.findall(outside)
        for line in written:
            line = re.sub(r"^\s*(?:\$ )?(?:[A-Z_]+=\S* )*", "", line)
            line = line.replace(".venv/bin/", "")
            if _COMMAND.match(line):
                yield page.name, re.sub(r"^python3 ", "python ", line)


def helps(group: click.Group) -> Iterator[str]:
    """The help of a group and of everything in it."""
    yield group.help or ""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield from helps(command) if isinstance(command, click.Group) else [command.help or ""]


def examples() -> Iterator[tuple[str, str]]:
    """(name of the group, command), from the examples in helps."""
    for name, module in GROUPS.items():
        for text in helps(importlib.import_module(module).cli):
            for line in text.replace("\\\n", " ").splitlines():
                if _COMMAND.match(line.strip()):
                    yield f"{name} --help", line.strip()


COMMANDS = sorted({*commands(), *examples()})


def words_of(line: str) -> list[str]:
    """The words before a comment, a pipe or a second command; `...` stands for left-out ones."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&<>")
    lexer.whitespace_split = True
    words = []
    for word in lexer:
        if word and set(word) <= set("|;&<>"):
            break
        words.append(word)
    return words


def check(group: click.Group, words: list[str]) -> None:
    """Raise click.UsageError where the group does not take these words."""
    if not words or words[0] in ("...", "COMMAND"):
        return
    if words[0].startswith("-"):
        words = ["--help"] if words == ["-h"] else words
        known = {name for parameter in group.params for name in parameter.opts} | {"--help"}
        if words[0] not in known:
            raise click.NoSuchOption(words[0])
        return
    outer = click.Context(group)
    command = group.get_command(outer, words[0])
    if command is None:
        raise click.UsageError(f"no command {words[0]}")
    if isinstance(command, click.Group):
        check(command, words[1:])
        return
    context = click.Context(command, parent=outer, info_name=words[0])
    rest = [word for word in words[1:] if word != "..."]
    values, left, _ = command.make_parser(context).parse_args(rest)
    if left:
        raise click.UsageError(f"{left} is one argument too many")
    for parameter in command.params:
        value = values.get(parameter.name or "")
        choice = isinstance(parameter.type, click.Choice | click.IntRange | click.FloatRange)
        if isinstance(value, str) and choice:
            parameter.type.convert(value, parameter, context)
        whole = len(words) > 1 and "..." not in words
        if parameter.required and whole and "--help" not in rest and value in (None, (), []):
            raise click.MissingParameter(param=parameter, ctx=context)


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[f"{p}: {c[:60]}" for p, c in COMMANDS])
def test_the_command_exists_with_all_its_options(page: str, line: str) -> None:
    words = words_of(line)
    for path in (word for word in words if word.startswith(("training/", "cropseg_edge/"))):
        assert (ROOT / path).exists(), f"{page}: {line}"
    if words[0] == "python" and words[1] != "-m":
        script = (ROOT / words[1]).read_text()
        for option in (word for word in words[2:] if word.startswith("--")):
            assert f'"{option.partition("=")[0]}"' in script, f"{page}: {line}"
        return
    size = 1 if words[0] == "cropseg" else 3
    module = importlib.import_module(GROUPS[" ".join(words[:size])])
    try:
        check(module.cli, words[size:])
    except click.UsageError as error:
        pytest.fail(f"{page}: `{line}`: {error.format_message()}")


def test_the_pages_hold_commands_at_all() -> None:
    pages = ("README.md", "calibration.md", "jetson.md")
    for page in (*pages, *(f"{name} --help" for name in GROUPS)):
        assert len([line for name, line in COMMANDS if name == page]) > 4, page


@pytest.mark.parametrize(
    "line",
    [
        "cropseg frobnicate",
        "cropseg run a.mp4 --out x --no-such-option",
        "cropseg info one two",
        "cropseg run a.mp4",
        "cropseg bench --engine abacus",
        "cropseg bench --frames 0",
        "cropseg --no-such-option",
        "python -m training no-such-command",
    ],
)
def test_a_command_that_does_not_exist_is_noticed(line: str) -> None:
    words = words_of(line)
    size = 1 if words[0] == "cropseg" else 3
    module = importlib.import_module(GROUPS[" ".join(words[:size])])
    with pytest.raises(click.UsageError):
        check(module.cli, words[size:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_arguments_of_the_launch_file_exist(page: Path) -> None:
    launch = (ROOT / "ros2_ws/src/cropseg_ros/launch/segmentation.launch.py").read_text()
    for line in re.findall(
        r"ros2 launch cropseg_ros segmentation.launch.py (.*)", page.read_text()
    ):
        for argument in re.findall(r"(\w+):=", line):
            assert f'"{argument}"' in launch, f"{page.name}: {argument}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_the_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_targets_of_make_exist(page: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in re.findall(r"`make ([a-z-]+)", page.read_text()):
        assert target in targets, f"{page.name}: make {target}"


def test_the_doctor_on_the_page_about_jetsons_is_the_doctor() -> None:
    from cropseg_edge.doctor.examine import CHECKS

    text = (ROOT / "docs" / "jetson.md").read_text()
    lines = re.findall(r"^(?:ok|warn|fail|absent) +(\S+(?: \S+)?)  +\S", text, re.MULTILINE)
    assert len(lines) > 10
    assert set(lines) <= {*CHECKS, "CPU", "known"}


def test_outputs_that_are_shown_come_from_the_shipped_bundle() -> None:
    named = re.compile(r"(?:cropseg-nano \(?|bundle )([0-9a-f]{12})\b")
    found = {sha for page in PAGES for sha in named.findall(page.read_text())}
    assert found == {read_bundle().sha256[:12]}
