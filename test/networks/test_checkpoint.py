from __future__ import annotations

import argparse
import sys
import types

import pytest
import torch
from torch import nn

from depth_completion_ros.errors import InputError, ModelFileError
from depth_completion_ros.networks.checkpoint import (
    load_published,
    open_network,
    read_checkpoint,
    save_network,
)
from depth_completion_ros.networks.enet import ENet, ENetSettings
from depth_completion_ros.networks.lrru import LRRU, LRRUSettings
from depth_completion_ros.networks.penet import PENet, PENetSettings
from depth_completion_ros.networks.redc import ReDC, ReDCSettings

NARROW = 0.03125


@pytest.fixture
def result(monkeypatch):
    """An instance of a class Result of a module metrics, as the authors' training makes it."""
    module = types.ModuleType("metrics")
    module.Result = type("Result", (), {"__module__": "metrics"})
    monkeypatch.setitem(sys.modules, "metrics", module)
    result = module.Result()
    result.rmse, result.silog = 728.31, float("inf")
    return result


def assert_same(network: nn.Module, other: nn.Module) -> None:
    for found, expected in zip(
        network.state_dict().values(), other.state_dict().values(), strict=True
    ):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("zipped", [True, False])
def test_the_authors_layout_of_redc_is_read_in_safe_mode(tmp_path, result, monkeypatch, zipped):
    network = ReDC(ReDCSettings(width=NARROW))
    optimizer = torch.optim.Adam(network.parameters())
    content = {
        "epoch": 29,
        "model": network.state_dict(),
        "scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 30).state_dict(),
        "best_result": result,
        "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(lr=1e-3, kernel_size=3, data_folder="data"),
    }
    path = tmp_path / "model_best.pth.tar"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    monkeypatch.delitem(sys.modules, "metrics")
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(path, weights_only=True)

    other = ReDC(ReDCSettings(width=NARROW))
    load_published(other, path)
    assert_same(other, network)
    # What was let through for this file is not let through for the next one.
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(path, weights_only=True)


@pytest.mark.parametrize("layout", ["plain", "module", "net"])
def test_layouts_of_lrru_are_read(tmp_path, layout):
    network = LRRU(LRRUSettings(size="mini"))
    content = network.state_dict()
    if layout != "plain":
        content = {f"module.{name}": tensor for name, tensor in content.items()}
    if layout == "net":
        content = {"net": content, "optimizer": {}, "scheduler": {}, "amp": None}
    torch.save(content, tmp_path / "LRRU.pt")
    other = LRRU(LRRUSettings(size="mini"))
    load_published(other, tmp_path / "LRRU.pt")
    assert_same(other, network)


def test_constants_and_leftovers_of_penet_are_ignored(tmp_path):
    network = PENet(PENetSettings(width=NARROW))
    leftovers = {"encoder3": torch.zeros(9, 9, 3, 3), "dimhalf_s2.0.weight": torch.zeros(64)}
    torch.save({"model": {**network.state_dict(), **leftovers}}, tmp_path / "pe.pth.tar")
    other = PENet(PENetSettings(width=NARROW))
    load_published(other, tmp_path / "pe.pth.tar")
    assert_same(other, network)


class Malicious:
    def __reduce__(self):
        return print, ("this must not run",)


def test_code_in_a_checkpoint_is_refused(tmp_path, capsys):
    torch.save({"model": {"a": torch.zeros(1)}, "args": Malicious()}, tmp_path / "bad.pth")
    with pytest.raises(ModelFileError, match=r"bad\.pth: no checkpoint .* print"):
        read_checkpoint(tmp_path / "bad.pth")
    assert capsys.readouterr().out == ""


def test_files_that_are_no_checkpoint_are_refused(tmp_path):
    with pytest.raises(ModelFileError, match=r"missing\.pth: No such file"):
        read_checkpoint(tmp_path / "missing.pth")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    with pytest.raises(ModelFileError, match=r"text\.pth: no checkpoint"):
        read_checkpoint(tmp_path / "text.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(ModelFileError, match=r"empty\.pth: found epoch, expected tensors"):
        read_checkpoint(tmp_path / "empty.pth")


def test_weights_of_another_width_are_refused(tmp_path):
    torch.save(ENet(ENetSettings(width=NARROW)).state_dict(), tmp_path / "enet.pth")
    with pytest.raises(ModelFileError, match=r"does not fit ENet.*is it another network or width"):
        load_published(ENet(ENetSettings(width=2 * NARROW)), tmp_path / "enet.pth")


def test_a_network_its_settings_do_not_describe_is_not_saved(tmp_path):
    network = ReDC(ReDCSettings(width=NARROW), backbone=ENet(ENetSettings(width=2 * NARROW)))
    with pytest.raises(InputError, match="its settings do not describe it"):
        save_network(network, tmp_path / "redc.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_model_file_without_metadata_is_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ModelFileError, match="no network in its metadata"):
        open_network(path)
    save_file({"a": torch.zeros(1)}, path, {"network": "resnet", "settings": "{}"})
    with pytest.raises(ModelFileError, match=r"fits no network here .*found 'resnet'"):
        open_network(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ModelFileError, match=r"expected a \.safetensors file"):
        open_network(path)
