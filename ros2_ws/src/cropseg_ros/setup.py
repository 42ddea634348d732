from setuptools import setup

setup(
    name="cropseg_ros",
    version="0.1.0",
    description="Crop segmentation as a ROS 2 lifecycle node",
    maintainer="cropseg-edge maintainers",
    maintainer_email="maintainers@cropseg.invalid",
    license="Apache-2.0",
    packages=["cropseg_ros"],
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/cropseg_ros"]),
        ("share/cropseg_ros", ["package.xml"]),
        ("share/cropseg_ros/config", ["config/segmentation.yaml", "config/fastdds.xml"]),
        ("share/cropseg_ros/launch", ["launch/segmentation.launch.py"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    entry_points={
        "console_scripts": [
            "segmentation_node = cropseg_ros.segmentation_node:main",
            "camera_node = cropseg_ros.camera_node:main",
            "recorder_node = cropseg_ros.recorder_node:main",
        ]
    },
)
