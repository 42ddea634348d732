"""Starts the segmentation node: `ros2 launch cropseg_ros segmentation.launch.py`.

Parameters come from the shipped YAML, then from `params_file`, then from the arguments that are
given; the later wins.
"""

from ament_index_python.packages import get_package_share_path
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue

from cropseg_ros.transport import environment
from launch import LaunchContext, LaunchDescription

# name -> (type, description); an empty one leaves the parameter as the YAML has it
ARGUMENTS = {
    "bundle": (str, "Model bundle (.cropseg)"),
    "engine": (str, "auto, tensorrt or onnxruntime"),
    "image_topic": (str, "Camera topic"),
    "transport": (str, "raw or compressed"),
    "autostart": (bool, "Configure and activate at once"),
}


def generate_launch_description() -> LaunchDescription:
    """One node, its YAML, and the environment in which large images travel well."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("namespace", default_value="", description="Namespace"),
            DeclareLaunchArgument(
                "params_file",
                default_value=_shipped(),
                description="YAML with the node's parameters",
            ),
            *(
                DeclareLaunchArgument(
                    name, default_value="", description=f"{text}; empty: as in the YAML"
                )
                for name, (_, text) in ARGUMENTS.items()
            ),
            OpaqueFunction(function=_node),
        ]
    )


def _node(context: LaunchContext) -> list[LifecycleNode]:
    given = {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind)
        for name, (kind, _) in ARGUMENTS.items()
        if LaunchConfiguration(name).perform(context)
    }
    return [
        LifecycleNode(
            package="cropseg_ros",
            executable="segmentation_node",
            name="segmentation_node",
            namespace=LaunchConfiguration("namespace"),
            parameters=[
                _shipped(),
                LaunchConfiguration("params_file"),
                *([given] if given else []),
            ],
            additional_env=environment(),
            respawn=True,
            respawn_delay=1.0,
            output="screen",
        )
    ]


def _shipped() -> str:
    return str(get_package_share_path("cropseg_ros") / "config" / "segmentation.yaml")
