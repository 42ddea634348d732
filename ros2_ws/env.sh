# Source this in bash: the ROS 2 environment of this checkout, as far as it has been built.
_ros2_ws="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
if [ -f "$_ros2_ws/install/local_setup.bash" ]; then
    . "$_ros2_ws/install/local_setup.bash"
fi
export PYTHONPATH="$_ros2_ws/src/cropseg_ros${PYTHONPATH:+:$PYTHONPATH}"
unset _ros2_ws
