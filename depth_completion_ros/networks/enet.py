"""ENet: two hourglasses, color-dominant and depth-dominant, with geometry in every block.

The backbone of PENet (`penet.py`) and ReDC (`redc.py`), which load its published weights.

References:
    Hu et al., PENet: Towards Precise and Efficient Image Guided Depth Completion, ICRA 2021,
    arXiv 2103.00783.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..settings import CheckedSettings, setting
from .blocks import conv_bn, conv_bn_relu, deconv_bn_relu, nearest_measurement
from .network import Backbone, BackboneOutput, required_image

# The frame that the published weights know: size, focal length and principal point, the same for
# all images and both cameras. CY is 11.5 too large for their bottom crop; they were trained so.
PUBLISHED_HEIGHT, PUBLISHED_WIDTH = 352, 1216
FOCAL = 721.5377
CX, CY = 596.5593, 161.354

LEVELS = 6  # full size to 1/32
GEOMETRY_CHANNELS = 3


@dataclass(frozen=True)
class ENetSettings(CheckedSettings):
    """Choose the form of ENet."""

    width: float = setting(
        1.0, range=(0.03125, 2.0), help="Factor on all channel counts but inputs and outputs."
    )
    geometry: str = setting(
        "published",
        choices=("published", "camera"),
        help="published: fixed 352x1216 frame and intrinsics, as released weights expect; "
        "camera: the viewing rays of the real camera.",
    )
    window: tuple[float, ...] = setting(
        (),
        length=(0, 2),
        unit="px",
        help="Row and column of the image's corner in the published frame; empty takes the "
        "bottom rows and the middle columns (geometry published).",
    )


class ENet(Backbone):
    """Fuse two estimates of depth by their learned confidences.

    Tensor names are those of the published weights.
    """

    multiple = 2 ** (LEVELS - 1)

    def __init__(self, settings: ENetSettings = ENetSettings()) -> None:
        """Build it with torch's default initialisation, which is also the published one."""
        super().__init__()
        self.settings = settings
        # Channels at full size, 1/2, ... 1/32.
        c = [max(1, round(settings.width * n)) for n in (32, 64, 128, 256, 512, 1024)]
        self.feature_channels = (2 * c[0], 2 * c[1], 2 * c[2])

        self.rgb_conv_init = conv_bn_relu(4, c[0], kernel=5)
        for level in range(1, LEVELS):
            # Two blocks lead to each level; the first one halves the size.
            down, same = f"layer{2 * level - 1}", f"layer{2 * level}"
            self.add_module(f"rgb_encoder_{down}", GeometryBlock(c[level - 1], c[level], stride=2))
            self.add_module(f"rgb_encoder_{same}", GeometryBlock(c[level], c[level]))
        for level in reversed(range(LEVELS - 1)):
            self.add_module(
                f"rgb_decoder_layer{2 * level}", deconv_bn_relu(c[level + 1], c[level])
            )
        self.rgb_decoder_output = deconv_bn_relu(c[0], 2, kernel=3, stride=1)

        self.depth_conv_init = conv_bn_relu(2, c[0], kernel=5)
        for level in range(1, LEVELS):
            # From 1/2 on, the decoder of the other branch is concatenated.
            wide = c[level - 1] if level == 1 else 2 * c[level - 1]
            down, same = f"layer{2 * level - 1}", f"layer{2 * level}"
            self.add_module(f"depth_{down}", GeometryBlock(wide, c[level], stride=2))
            self.add_module(f"depth_{same}", GeometryBlock(c[level], c[level]))
        for level in reversed(range(LEVELS - 1)):
            self.add_module(
                f"decoder_layer{LEVELS - 1 - level}", deconv_bn_relu(c[level + 1], c[level])
            )
        self.decoder_layer6 = conv_bn_relu(c[0], 2)

    @property
    def inputs(self) -> tuple[str, ...]:
        """See `DepthNetwork`."""
        rays = ("rays",) if self.settings.geometry == "camera" else ()
        return ("image", "sparse", *rays)

    def encode(self, image: Tensor | None, sparse: Tensor, rays: Tensor | None) -> BackboneOutput:
        """Predict coarse depth and features; see `Backbone`."""
        image = required_image(image)
        geometry = self._geometry(sparse, rays)

        # Color-dominant branch. x[l] and y[l] are (B, C_l, H / 2^l, W / 2^l).
        x = [self.rgb_conv_init(torch.cat((image, sparse), 1))]
        for level in range(1, LEVELS):
            x.append(self._descend("rgb_encoder_layer", level, x[-1], geometry))
        y = x[-1]
        rgb_decoded = [y]  # from 1/32 to full size
        for level in reversed(range(LEVELS - 1)):
            y = self.get_submodule(f"rgb_decoder_layer{2 * level}")(y) + x[level]
            rgb_decoded.insert(0, y)
        rgb_depth, rgb_confidence = self.rgb_decoder_output(y).split(1, dim=1)

        # Depth-dominant branch.
        z = [self.depth_conv_init(torch.cat((sparse, rgb_depth), 1))]
        for level in range(1, LEVELS):
            # The concatenation is skipped at full size, where the branches just met.
            below = z[-1] if level == 1 else torch.cat((rgb_decoded[level - 1], z[-1]), 1)
            z.append(self._descend("depth_layer", level, below, geometry))
        y = x[-1] + z[-1]
        depth_decoded: list[Tensor] = []  # from full size to 1/16
        for level in reversed(range(LEVELS - 1)):
            y = self.get_submodule(f"decoder_layer{LEVELS - 1 - level}")(y)
            depth_decoded.insert(0, y)
            y = y + z[level] if level > 0 else y
        sparse_depth, sparse_confidence = self.decoder_layer6(y).split(1, dim=1)

        confidence = torch.softmax(torch.cat((rgb_confidence, sparse_confidence), 1), 1)
        depth = confidence[:, :1] * rgb_depth + confidence[:, 1:] * sparse_depth
        fine, half, quarter = (
            torch.cat((rgb_decoded[level], depth_decoded[level]), 1) for level in range(3)
        )
        return BackboneOutput(depth, (rgb_depth, sparse_depth), (fine, half, quarter))

    def _descend(self, name: str, level: int, x: Tensor, geometry: list[Tensor]) -> Tensor:
        here, below = geometry[level - 1], geometry[level]
        x = self.get_submodule(f"{name}{2 * level - 1}")(x, here, below)
        y: Tensor = self.get_submodule(f"{name}{2 * level}")(x, below, below)
        return y

    def _geometry(self, sparse: Tensor, rays: Tensor | None) -> list[Tensor]:
        """Give the y, x and z of the measurements of every level, (B, 3, H / 2^l, W / 2^l)."""
        if self.settings.geometry == "published":
            return published_geometry(sparse, self._window(*sparse.shape[2:]))
        if rays is None:
            msg = "rays: found none, expected (B, 2, H, W); geometry camera needs the real ones"
            raise InputError(msg)
        return camera_geometry(sparse, rays)

    def _window(self, height: int, width: int) -> tuple[int, int]:
        if self.settings.window:
            row, column = self.settings.window
            return int(row), int(column)
        # int, because sizes are tensors while a network is traced.
        return PUBLISHED_HEIGHT - int(height), round((PUBLISHED_WIDTH - int(width)) / 2)


class GeometryBlock(nn.Module):
    """Residual block that is told the geometry of the pixels it looks at."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1) -> None:
        """Name the parts as the published weights do."""
        super().__init__()
        wide = channels_in + GEOMETRY_CHANNELS
        self.conv1 = nn.Conv2d(wide, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels + GEOMETRY_CHANNELS, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride != 1 or channels_in != channels:
            self.downsample = conv_bn(wide, channels, kernel=1, stride=stride)

    def forward(self, x: Tensor, geometry_in: Tensor, geometry_out: Tensor) -> Tensor:
        """Convolve (B, C, H, W) to (B, channels, H / stride, W / stride)."""
        wide = torch.cat((x, geometry_in), 1)
        y = F.relu(self.bn1(self.conv1(wide)))
        # Geometry comes last above and first here, in the published weights.
        y = self.bn2(self.conv2(torch.cat((geometry_out, y), 1)))
        shortcut = x if self.downsample is None else self.downsample(wide)
        return F.relu(y + shortcut)


def camera_geometry(sparse: Tensor, rays: Tensor) -> list[Tensor]:
    """Unproject the measurements of each level with the rays of the real camera.

    Args:
        sparse: (B, 1, H, W) metres, 0 = none.
        rays: (B, 2, H, W) x/z and y/z.

    Returns:
        For each level (B, 3, H / 2^l, W / 2^l) metres: y, x, z in the camera's frame.
    """
    maps = []
    for level in range(LEVELS):
        if level > 0:
            sparse = nearest_measurement(sparse)
            rays = F.avg_pool2d(rays, 2)
        maps.append(torch.cat((sparse * rays[:, 1:], sparse * rays[:, :1], sparse), 1))
    return maps


def published_geometry(sparse: Tensor, window: tuple[int, int]) -> list[Tensor]:
    """Do what `camera_geometry` should, the way the published weights were trained.

    From level to level the size of the frame is halved but its intrinsics are not.

    Args:
        sparse: (B, 1, H, W) metres, 0 = none.
        window: row and column of the map's corner in the published frame; may be negative.

    Returns:
        As `camera_geometry`.
    """
    position = published_position(sparse.shape[2], sparse.shape[3], window, sparse.device)
    maps = []
    for level in range(LEVELS):
        if level > 0:
            sparse = nearest_measurement(sparse)
            position = F.avg_pool2d(position, 2)
        height, width = PUBLISHED_HEIGHT / 2**level, PUBLISHED_WIDTH / 2**level
        y = sparse * (0.5 * height * (position[:, 1:] + 1) - CY) / FOCAL
        x = sparse * (0.5 * width * (position[:, :1] + 1) - CX) / FOCAL
        maps.append(torch.cat((y, x, sparse), 1))
    return maps


def published_position(
    height: int, width: int, window: tuple[int, int], device: torch.device
) -> Tensor:
    """Give each pixel's place in the published frame, -1 to 1; (1, 2, H, W), column first.

    In float32 from the quotient on: float64 changes the depth by up to 8e-5 m.
    """
    row, column = window
    u = torch.arange(column, column + width, device=device, dtype=torch.float32)
    v = torch.arange(row, row + height, device=device, dtype=torch.float32)
    u = u / (PUBLISHED_WIDTH - 1) * 2 - 1
    v = v / (PUBLISHED_HEIGHT - 1) * 2 - 1
    size = (height, width)
    return torch.stack((u.expand(size), v[:, None].expand(size)))[None]
