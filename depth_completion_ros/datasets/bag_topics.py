"""Which topics of a bag are the camera and the LiDAR, judged by type and name.

Not here: reading their messages (`rosbag2.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from .calibration import KITTI_CAMERA_FRAMES

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
POINT_CLOUD = "sensor_msgs/msg/PointCloud2"
TF_MESSAGE = "tf2_msgs/msg/TFMessage"

_KINDS = {
    "image": (IMAGE, COMPRESSED_IMAGE),
    "camera_info": (CAMERA_INFO,),
    "points": (POINT_CLOUD,),
}
# What a name ends in, the wanted first: rectified before raw, colour before grey.
_IMAGE_ENDINGS = (
    "image_rect_color",
    "image_rect",
    "image_color",
    "image_raw",
    "image",
    "image_mono",
)
_POINTS_ENDINGS = (
    "velodyne_points",
    "points_raw",
    "pointcloud",
    "points",
    "point_cloud",
    "cloud",
)
# Images and clouds that no camera or LiDAR delivers, but another node has computed.
_COMPUTED_IMAGES = (
    "depth",
    "disparity",
    "infra",
    "confidence",
    "sigma",
    "theora",
    "mask",
    "label",
)
_COMPUTED_POINTS = (
    "depth",
    "stereo",
    "filtered",
    "cropped",
    "obstacle",
    "ground",
    "map",
    "cluster",
    "registered",
    "radar",
)


@dataclass(frozen=True)
class BagTopics:
    """Hold the topics that were chosen; `camera_info` is None if the bag has none."""

    image: str
    points: str
    camera_info: str | None


def choose_topics(
    path: Path, types: Mapping[str, str], *, camera: str, wanted: Mapping[str, str] | None = None
) -> BagTopics:
    """Choose the image, camera_info and points of a bag.

    Args:
        path: of the bag, for messages.
        types: message type by topic, of the topics that hold messages.
        camera: KITTI camera to take from bags that kitti2bag made.
        wanted: topics chosen by the user, by role.

    Returns:
        The topics.

    Raises:
        InputError: a topic is not in the bag, has the wrong type, or several are equally likely.
    """
    wanted = dict(wanted or {})
    unknown = sorted(set(wanted) - set(_KINDS))
    if unknown:
        msg = f"topics: found {unknown[0]!r}, expected {', '.join(_KINDS)}"
        raise InputError(msg)
    for role, topic in wanted.items():
        if topic not in types:
            msg = f"{path}: found no topic {topic!r} for {role} (found {_listed(types)})"
            raise InputError(msg)
        if types[topic] not in _KINDS[role]:
            msg = (
                f"{path}: {role}: found {topic} of type {types[topic]}, expected "
                f"{' or '.join(_KINDS[role])}"
            )
            raise InputError(msg)
    images = _of_type(types, IMAGE, COMPRESSED_IMAGE)
    kitti = f"/{KITTI_CAMERA_FRAMES[camera]}/"
    image = wanted.get("image") or _best(
        path,
        "image",
        [t for t in images if kitti in t] or _without(images, _COMPUTED_IMAGES),
        _IMAGE_ENDINGS,
        types,
    )
    points = wanted.get("points") or _best(
        path,
        "points",
        _without(_of_type(types, POINT_CLOUD), _COMPUTED_POINTS),
        _POINTS_ENDINGS,
        types,
    )
    camera_info = wanted.get("camera_info") or _sibling_info(image, types)
    return BagTopics(image, points, camera_info)


def _sibling_info(image: str, types: Mapping[str, str]) -> str | None:
    """Find the camera_info beside an image, or the only one there is."""
    infos = _of_type(types, CAMERA_INFO)
    folder = _plain_name(image).rpartition("/")[0]
    sibling = f"{folder}/camera_info"
    if sibling in infos:
        return sibling
    return infos[0] if len(infos) == 1 else None


def _best(
    path: Path,
    role: str,
    candidates: Sequence[str],
    endings: Sequence[str],
    types: Mapping[str, str],
) -> str:
    if not candidates:
        kind = "Image or CompressedImage" if role == "image" else "PointCloud2"
        msg = f"{path}: found no topic of type {kind} (found {_listed(types)})"
        raise InputError(msg)

    def rank(topic: str) -> int:
        name = _plain_name(topic).rpartition("/")[2]
        return next((i for i, end in enumerate(endings) if name == end), len(endings))

    first = min(rank(topic) for topic in candidates)
    best = [topic for topic in candidates if rank(topic) == first]
    # The same image raw and compressed is no choice at all.
    raw = [t for t in best if types[t] != COMPRESSED_IMAGE]
    best = [t for t in best if t in raw or _plain_name(t) not in raw]
    if len(best) > 1:
        msg = (
            f"{path}: found {len(best)} topics that may be {role} ({', '.join(best)}); choose one "
            f"with topics, {role}: {best[0]}"
        )
        raise InputError(msg)
    return best[0]


def _plain_name(topic: str) -> str:
    """Take the transport off an image topic."""
    return topic.removesuffix("/compressed")


def _of_type(types: Mapping[str, str], *kinds: str) -> list[str]:
    return [topic for topic, kind in sorted(types.items()) if kind in kinds]


def _without(topics: Iterable[str], words: Sequence[str]) -> list[str]:
    """Leave out the topics that contain one of the words, unless nothing else is left."""
    topics = list(topics)
    plain = [t for t in topics if not any(word in t.lower() for word in words)]
    return plain or topics


def _listed(types: Mapping[str, str]) -> str:
    return ", ".join(f"{t} ({k.rpartition('/')[2]})" for t, k in sorted(types.items())) or "none"
