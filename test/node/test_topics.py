from __future__ import annotations

from depth_completion_ros.node.topics import camera_info_topic, compressed_topic


def test_camera_info_is_found_beside_the_image():
    default = "/depth_completion/camera_info"
    assert camera_info_topic("/cam/image_raw", default, default) == "/cam/camera_info"
    assert camera_info_topic("/image", default, default) == "/camera_info"


def test_a_remapped_camera_info_is_taken_as_it_is():
    found = camera_info_topic("/cam/image_raw", "/calib/info", "/depth_completion/camera_info")
    assert found == "/calib/info"


def test_the_compressed_image_lies_below_the_image():
    default = "/depth_completion/image/compressed"
    assert compressed_topic("/cam/image_raw", default, default) == "/cam/image_raw/compressed"
    assert compressed_topic("/cam/image_raw", "/jpeg", default) == "/jpeg"
