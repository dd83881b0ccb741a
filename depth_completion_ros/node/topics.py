"""Which topics belong together, by the conventions of ROS drivers and image_transport.

Not here: subscribing. No ROS is imported.
"""

from __future__ import annotations


def camera_info_topic(image_topic: str, own_topic: str, default_topic: str) -> str:
    """Choose the camera_info topic that belongs to an image topic.

    Args:
        image_topic: absolute, after remapping, such as `/cam/image_raw`.
        own_topic: what the name `camera_info` became after remapping.
        default_topic: what it would be without remapping.

    Returns:
        `own_topic` if it was remapped; else the image's sibling, `/cam/camera_info`.

    Source: image_transport's `getCameraInfoTopic`.
    """
    if own_topic != default_topic:
        return own_topic
    return image_topic.rsplit("/", 1)[0] + "/camera_info"


def compressed_topic(image_topic: str, own_topic: str, default_topic: str) -> str:
    """Choose the topic of compressed images.

    Args:
        image_topic: absolute, after remapping of `image`.
        own_topic: what the name `image/compressed` became after remapping.
        default_topic: what it would be without remapping.

    Returns:
        `own_topic` if it was remapped; else `image_topic` with `/compressed`.
    """
    if own_topic != default_topic:
        return own_topic
    return image_topic + "/compressed"
