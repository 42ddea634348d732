"""The table of known bad combinations: what it says for the versions of JetPack."""

import pytest

from cropseg_edge.bundle import read_bundle
from cropseg_edge.engines.tensorrt.known_issues import KNOWN_ISSUES, known_issues


def names(*arguments: object) -> list[str]:
    return [issue.name for issue in known_issues(*arguments)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("version", "precision", "graph", "expected"),
    [
        ("10.3.0", "fp16", b"", ["vit-fp16"]),
        ("10.3.0.30", "int8", b"", ["vit-fp16"]),
        ("10.3.0", "fp32", b"GridSample", []),
        ("10.4.0", None, None, ["vit-fp16"]),
        ("10.5.0", "fp16", b"", []),
        ("10.13.3.9", "fp16", b"GridSample", []),
        ("10.16.2.10", "fp16", b"..GridSample..", ["gridsample"]),
        ("10.16.2.10", "fp16", b"..GatherElements..", []),
        ("11.4.0.106", None, None, ["gridsample"]),
        ("9.1", None, None, []),
        ("unknown", None, None, []),
        ("10", None, None, []),
    ],
)
def test_versions(
    version: str, precision: str | None, graph: bytes | None, expected: list[str]
) -> None:
    assert names(version, precision, graph) == expected


def test_every_issue_has_a_remedy_and_a_source() -> None:
    for issue in KNOWN_ISSUES:
        assert issue.symptom
        assert issue.remedy
        assert all(source.startswith("https://github.com/") for source in issue.sources)
        assert issue.sources


def test_the_shipped_graph_is_free_of_gridsample() -> None:
    bundle = read_bundle()
    for precision in bundle.manifest.precisions("tensorrt"):
        assert "gridsample" not in names("11.4.0", precision, bundle.graph("tensorrt", precision))
