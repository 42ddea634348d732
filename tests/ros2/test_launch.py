"""The launch file, with stand-ins for `launch`: which parameters reach the node."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

PACKAGE = Path(__file__).parents[2] / "ros2_ws/src/cropseg_ros"
YAML = str(PACKAGE / "config/segmentation.yaml")


class Configuration:
    """A LaunchConfiguration; the context is a dict."""

    def __init__(self, name: str) -> None:
        self.name = name

    def perform(self, context: dict[str, str]) -> str:
        return context[self.name]


def _keep(*arguments: Any, **named: Any) -> SimpleNamespace:
    return SimpleNamespace(arguments=arguments, **named)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Evaluates the launch file's description; gives arguments and node."""
    stand_ins = {
        "ament_index_python.packages": {"get_package_share_path": lambda _: PACKAGE},
        "launch": {"LaunchContext": dict, "LaunchDescription": _keep},
        "launch.actions": {"DeclareLaunchArgument": _keep, "OpaqueFunction": _keep},
        "launch.substitutions": {"LaunchConfiguration": Configuration},
        "launch_ros.actions": {"LifecycleNode": _keep},
        "launch_ros.parameter_descriptions": {"ParameterValue": _keep},
    }
    for name in ("ament_index_python", "launch_ros", *stand_ins):
        module = ModuleType(name)
        vars(module).update(stand_ins.get(name, {}))
        monkeypatch.setitem(sys.modules, name, module)

    def launch(**given: str) -> tuple[dict[str, str], SimpleNamespace]:
        file = runpy.run_path(str(PACKAGE / "launch/segmentation.launch.py"))
        (entities,) = file["generate_launch_description"]().arguments
        *declared, opaque = entities
        defaults = {entity.arguments[0]: entity.default_value for entity in declared}
        (node,) = opaque.function(defaults | given)
        return defaults, node

    return launch


def test_without_arguments_the_files_alone_decide(launched: Any) -> None:
    defaults, node = launched()
    assert defaults.pop("params_file") == YAML
    assert set(defaults.values()) == {""}
    shipped, file = node.parameters
    assert (shipped, file.name) == (YAML, "params_file")


def test_only_the_arguments_that_are_given_win_over_the_files(launched: Any) -> None:
    _, node = launched(engine="tensorrt", autostart="false")
    *_, given = node.parameters
    values = {name: (value.arguments[0].name, value.value_type) for name, value in given.items()}
    assert values == {"engine": ("engine", str), "autostart": ("autostart", bool)}


def test_every_argument_is_a_parameter_and_the_node_starts_at_once(launched: Any) -> None:
    defaults, _ = launched()
    parameters = yaml.safe_load(Path(YAML).read_text())["/**"]["ros__parameters"]
    assert set(defaults) - {"namespace", "params_file"} <= set(parameters)
    assert parameters["autostart"] is True
