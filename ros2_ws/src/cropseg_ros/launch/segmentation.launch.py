"""Starts the segmentation node: `ros2 launch cropseg_ros segmentation.launch.py`."""

from ament_index_python.packages import get_package_share_path
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue

from cropseg_ros.transport import environment
from launch import LaunchDescription

# name -> (default, type, description)
ARGUMENTS = {
    "bundle": ("", str, "Model bundle (.cropseg); empty for the one that is shipped"),
    "engine": ("auto", str, "auto, tensorrt or onnxruntime"),
    "image_topic": ("image", str, "Camera topic"),
    "transport": ("raw", str, "raw or compressed"),
    "autostart": ("true", bool, "Configure and activate at once"),
}


def generate_launch_description() -> LaunchDescription:
    """One node, its YAML, and the environment in which large images travel well."""
    share = get_package_share_path("cropseg_ros")
    chosen = {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind)
        for name, (_, kind, _) in ARGUMENTS.items()
    }
    return LaunchDescription(
        [
            DeclareLaunchArgument("namespace", default_value="", description="Namespace"),
            DeclareLaunchArgument(
                "params_file",
                default_value=str(share / "config" / "segmentation.yaml"),
                description="YAML with the node's parameters",
            ),
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, _, text) in ARGUMENTS.items()
            ),
            LifecycleNode(
                package="cropseg_ros",
                executable="segmentation_node",
                name="segmentation_node",
                namespace=LaunchConfiguration("namespace"),
                parameters=[LaunchConfiguration("params_file"), chosen],
                additional_env=environment(),
                respawn=True,
                respawn_delay=1.0,
                output="screen",
            ),
        ]
    )
