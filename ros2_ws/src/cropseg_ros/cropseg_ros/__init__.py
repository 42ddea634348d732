"""ROS 2 nodes of cropseg-edge: thin over `cropseg_edge`, for rclpy of Humble and newer."""
