"""Every network by name; the one place where a new network is made known.

Not here: the weights (`checkpoint.py`) and which network `auto` means (`completers/opening.py`).
Listing names needs no torch.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import InputError

if TYPE_CHECKING:
    from .network import DepthNetwork


class Entry(NamedTuple):
    """Say where a network and its settings are defined."""

    module: str
    network: str
    settings: str


NETWORKS = {
    "cdspn": Entry("cdspn", "CDSPN", "CDSPNSettings"),
    "cspn++": Entry("cspn_plus", "CSPNPlus", "CSPNPlusSettings"),
    "enet": Entry("enet", "ENet", "ENetSettings"),
    "lrru": Entry("lrru", "LRRU", "LRRUSettings"),
    "msg_chn": Entry("msg_chn", "MSGCHN", "MSGCHNSettings"),
    "penet": Entry("penet", "PENet", "PENetSettings"),
    "redc": Entry("redc", "ReDC", "ReDCSettings"),
    "redc_lite": Entry("redc_lite", "ReDCLite", "ReDCLiteSettings"),
    "steering": Entry("steering", "Steering", "SteeringSettings"),
}


def build_network(name: str, **settings: Any) -> DepthNetwork:
    """Make a network with fresh weights.

    Args:
        name: one of `NETWORKS`.
        settings: fields of its settings class; what is not given keeps its default, which is
            the published form.

    Returns:
        The network on the CPU, in training mode.

    Raises:
        InputError: the name or a setting is unknown, or a value cannot be used.
    """
    if name not in NETWORKS:
        msg = f"network: found {name!r}, expected one of {', '.join(NETWORKS)}"
        raise InputError(msg)
    entry = NETWORKS[name]
    module = importlib.import_module(f".{entry.module}", __package__)
    settings_class = getattr(module, entry.settings)
    known = [field.name for field in dataclasses.fields(settings_class)]
    for setting in settings:
        if setting not in known:
            msg = f"{name}.{setting}: unknown setting; expected one of {', '.join(known)}"
            raise InputError(msg)
    network: DepthNetwork = getattr(module, entry.network)(settings_class(**settings))
    return network


def name_of(network: DepthNetwork) -> str:
    """Tell under which name a network is known.

    Raises:
        InputError: it is not in `NETWORKS`.
    """
    kind = type(network)
    for name, entry in NETWORKS.items():
        if kind.__name__ == entry.network and kind.__module__.endswith(f".{entry.module}"):
            return name
    msg = f"network: found {kind.__name__}, expected one of {', '.join(NETWORKS)}"
    raise InputError(msg)
