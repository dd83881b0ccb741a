"""Package metadata for pip and colcon; the version lives in package.xml alone."""

from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
PACKAGE = "depth_completion"
MANIFEST = ElementTree.parse(ROOT / "package.xml").getroot()


def share_files() -> list[tuple[str, list[str]]]:
    """List every launch, config and model file with the share folder it belongs to."""
    files = [
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ]
    for top in ("launch", "config", "models"):
        for folder in [ROOT / top, *sorted(p for p in (ROOT / top).rglob("*") if p.is_dir())]:
            names = sorted(
                str(path.relative_to(ROOT))
                for path in folder.iterdir()
                if path.is_file() and path.suffix != ".pyc"
            )
            if names and folder.name != "__pycache__":
                files.append((f"share/{PACKAGE}/{folder.relative_to(ROOT)}", names))
    return files


def ros_wheels(rclpy: str, messages: str) -> list[str]:
    """Name the ROS 2 wheels of one distribution; they exist for Linux on x86-64 only."""
    names = ("sensor-msgs", "std-msgs", "geometry-msgs", "diagnostic-msgs", "nav-msgs", "std-srvs")
    return [f"ros-rclpy[fastrtps]=={rclpy}", *(f"ros-{name}=={messages}" for name in names)]


SYNTHETIC = ["trimesh>=4,<6", "embreex>=2.17,<5"]
NYUV2 = ["h5py>=3.8,<4"]
ODOMETRY = ["kiss-icp>=1.0,<2"]
TORCH = ["torch>=2.5,<3", "safetensors>=0.4,<1"]
EXPORT = ["onnx>=1.15,<2", *TORCH]
TRITON = ["triton>=3.9,<4"]
TENSORRT = ["tensorrt-rtx>=1.7,<2", *EXPORT]
TRAIN = ["tensorboard>=2.14,<3", *TORCH]
TEST = [
    "codespell>=2.2,<3",
    "colcon-common-extensions>=0.3,<1",
    "colcon-core>=0.15,<1",
    "colcon-ros>=0.5,<1",
    "hypothesis>=6.80,<7",
    "import-linter>=2,<3",
    "mypy>=1.8,<3",
    "pytest>=8,<10",
    "pytest-timeout>=2,<3",
    "ruff>=0.9,<1",
    "scipy>=1.9,<2",
    "types-PyYAML",
    "types-tqdm",
]

setup(
    name=PACKAGE,
    version=MANIFEST.findtext("version"),
    description=MANIFEST.findtext("description"),
    license=MANIFEST.findtext("license"),
    author=MANIFEST.findtext("maintainer"),
    author_email=MANIFEST.find("maintainer").get("email"),
    packages=find_packages(include=["depth_completion_ros", "depth_completion_ros.*"]),
    package_data={"depth_completion_ros": ["py.typed"]},
    data_files=share_files(),
    python_requires=">=3.10",
    zip_safe=False,
    install_requires=[
        "setuptools",
        "numpy>=1.23,<3",
        "opencv-python-headless>=4.6,<6",
        "rosbags>=0.10.5,<0.11",
        "PyYAML>=5.4,<7",
        "tqdm>=4.60,<5",
    ],
    extras_require={
        "cpu": ["onnxruntime>=1.18,<2"],
        "gpu": ["onnxruntime-gpu>=1.18,<2"],
        "jazzy": ros_wheels("7.1.6", "5.3.6"),
        "kilted": ros_wheels("9.1.2", "5.5.1"),
        "synthetic": SYNTHETIC,
        "nyuv2": NYUV2,
        "odometry": ODOMETRY,
        "torch": TORCH,
        "export": EXPORT,
        "train": TRAIN,
        "triton": TRITON,
        "tensorrt": TENSORRT,
        "test": [*TEST, *NYUV2, *ODOMETRY, *TENSORRT, *TRAIN, *TRITON],
    },
    entry_points={
        "console_scripts": [
            "depth_completion = depth_completion_ros.cli.main:main",
            "depth_completion_node = depth_completion_ros.node.entry:run_completion_node",
            "kitti_player = depth_completion_ros.node.entry:run_kitti_player",
        ],
    },
)
