"""What all networks have in common: one signature, one result, any image size.

Not here: loading weights (`checkpoint.py`), choosing a network by name (`registry.py`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..data import Float32Array
from ..errors import InputError
from .padding import Padding


class NetworkOutput(NamedTuple):
    """Hold what a network predicts, in metres, at the size of its input.

    Attributes:
        depth: (B, 1, H, W) dense depth.
        sigma: (B, 1, H, W) standard deviation of its error, or None without a head for it;
            `disagreement` then is what a calibration can start from.
        stages: (B, 1, H, W) each, earlier estimates in the order they were made.
    """

    depth: Tensor
    sigma: Tensor | None = None
    stages: tuple[Tensor, ...] = ()

    def disagreement(self) -> Tensor:
        """Tell how far the earlier estimates lie from the last, (B, 1, H, W) metres, rms."""
        if not self.stages:
            return torch.zeros_like(self.depth)
        distances = torch.cat([stage - self.depth for stage in self.stages], dim=1)
        return distances.square().mean(1, keepdim=True).sqrt()


class DepthNetwork(nn.Module):
    """Complete depth; subclasses say how in `complete`, for sizes that suit them.

    Attributes:
        multiple: height and width are padded to a multiple of it, in pixels.
        settings: the frozen dataclass it was built from.
        unused_tensors: how the names of published tensors start that have no effect.
    """

    multiple = 1
    settings: Any
    unused_tensors: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Name the arguments of `forward` that this network looks at, in their order."""
        return ("image", "sparse")

    def prefill(self, sparse: Float32Array) -> Float32Array:
        """Make the dense map (H, W) a network with the input `prefilled` starts from."""
        raise NotImplementedError

    def forward(
        self,
        image: Tensor | None,
        sparse: Tensor,
        rays: Tensor | None = None,
        prefilled: Tensor | None = None,
    ) -> NetworkOutput:
        """Complete a batch of sparse depth maps of any height and width.

        Args:
            image: (B, 3, H, W) float RGB from 0 to 255; None for a network without an image.
            sparse: (B, 1, H, W) float metres, 0 where nothing was measured; may be empty.
            rays: (B, 2, H, W) x/z and y/z of each pixel's viewing ray, as
                `geometry.camera.normalised_pixels` gives them; for networks that ask for them.
            prefilled: (B, 1, H, W) metres, the dense map some networks start from; made from
                `sparse` on the host where it is needed and None.

        Returns:
            The prediction, finite, at the size of the input.

        Raises:
            InputError: a tensor has a shape that does not fit.
        """
        _check_shapes(
            image=(image, 3), sparse=(sparse, 1), rays=(rays, 2), prefilled=(prefilled, 1)
        )
        padding = Padding.to_multiple(sparse.shape[2], sparse.shape[3], self.multiple)
        output = self.complete(
            None if image is None else padding.extend(image),
            padding.extend_sparse(sparse),
            None if rays is None else padding.extend(rays),
            None if prefilled is None else padding.extend(prefilled),
        )
        return NetworkOutput(
            padding.crop(output.depth),
            None if output.sigma is None else padding.crop(output.sigma),
            tuple(padding.crop(stage) for stage in output.stages),
        )

    def complete(
        self,
        image: Tensor | None,
        sparse: Tensor,
        rays: Tensor | None,
        prefilled: Tensor | None,
    ) -> NetworkOutput:
        """Do what `forward` does, for heights and widths that are a multiple of `multiple`."""
        raise NotImplementedError


class BackboneOutput(NamedTuple):
    """Hold what a refinement builds on.

    Attributes:
        depth: (B, 1, H, W) metres, the coarse depth.
        stages: (B, 1, H, W) each, metres, the estimates it was made of.
        features: (B, C_l, H / 2^l, W / 2^l) for l = 0, 1, 2.
    """

    depth: Tensor
    stages: tuple[Tensor, ...]
    features: tuple[Tensor, Tensor, Tensor]


class Backbone(DepthNetwork):
    """Complete depth and hand on features, so that any refinement can follow.

    Attributes:
        feature_channels: C_l of the features at full, half and quarter size.
    """

    feature_channels: tuple[int, int, int]

    def encode(self, image: Tensor | None, sparse: Tensor, rays: Tensor | None) -> BackboneOutput:
        """Predict coarse depth and features, for sizes that are a multiple of `multiple`."""
        raise NotImplementedError

    def complete(
        self,
        image: Tensor | None,
        sparse: Tensor,
        rays: Tensor | None,
        prefilled: Tensor | None,
    ) -> NetworkOutput:
        """Complete depth without any refinement."""
        output = self.encode(image, sparse, rays)
        return NetworkOutput(output.depth, None, output.stages)


def required_image(image: Tensor | None) -> Tensor:
    """Give the image back, or refuse to do without.

    Raises:
        InputError: there is none.
    """
    if image is None:
        msg = "image: found none, expected (B, 3, H, W); this network needs a camera"
        raise InputError(msg)
    return image


def _check_shapes(**tensors: tuple[Tensor | None, int]) -> None:
    sparse = tensors["sparse"][0]
    assert sparse is not None
    size = (sparse.shape[0], *sparse.shape[2:])
    for name, (tensor, channels) in tensors.items():
        if tensor is None:
            continue
        expected = (size[0], channels, *size[1:])
        if tensor.ndim != 4 or tuple(tensor.shape) != expected:
            text = ", ".join(str(n) for n in expected)
            msg = f"{name}: found shape {tuple(tensor.shape)}, expected ({text})"
            raise InputError(msg)
