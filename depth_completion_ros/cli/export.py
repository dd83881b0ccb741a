"""`export`: write a network for other runtimes, and check that it still does the same.

Not here: how graphs are made (`networks/export.py`) and compared (`backends/comparison.py`).
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError, ModelFileError
from ..share import find_share_file
from .arguments import add_command, add_json_flag
from .output import print_json

_SUFFIXES = (".onnx", ".safetensors")
# Frames that ranges are taken from; the quantisation keeps all their activations in memory.
_MAX_EXAMPLES = 16
# A graph for any size is tried at these; multiples of 16 and 32, one of them odd in its ratio.
_TRIED_SIZES = ((96, 128), (352, 1216), (384, 1248))

_DESCRIPTION = """
Writes NETWORK with its weights to OUT: .onnx for ONNX Runtime and others, or .safetensors, which
makes a model file of a published checkpoint. A graph is run against torch before it is kept.
With --precision int8 the ranges of activations are taken from frames of --frames, any SOURCE; see
with `evaluate` what it costs. The graphs of redc_lite and msg_chn take images of any size; the
others hold for --size, to which images are padded: take the smallest multiple of the network's
that your images fit in.
"""
_EXAMPLES = """
depth_completion export redc_lite redc_lite.onnx --weights runs/redc_lite/redc_lite.safetensors
depth_completion export redc_lite redc_lite.int8.onnx --precision int8 --frames my_bag
depth_completion export penet penet.onnx --weights pe.pth.tar --size 1216x352
depth_completion export lrru lrru_mini.safetensors --weights LRRU_Mini.pt --set size=mini
"""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "export",
        summary="Write a network for other runtimes.",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    parser.add_argument("network", metavar="NETWORK", help="by name, such as redc_lite")
    parser.add_argument("out", metavar="OUT", help="file to write: .onnx or .safetensors")
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help=".safetensors, or a published checkpoint (default: the shipped weights)",
    )
    parser.add_argument("--size", metavar="WxH", help="images that the graph is for, in pixels")
    parser.add_argument(
        "--precision", choices=("fp32", "int8"), default="fp32", help="of an .onnx file"
    )
    parser.add_argument(
        "--frames", metavar="SOURCE", help="frames to take the ranges of int8 from"
    )
    parser.add_argument(
        "--set",
        metavar="SETTING=VALUE",
        action="append",
        default=[],
        help="form of the network that a published checkpoint was trained in; may be given again",
    )
    add_json_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Write the file and say what is in it."""
    out = Path(args.out)
    if out.suffix not in _SUFFIXES:
        msg = f"OUT: found {args.out!r}, expected a name that ends in {' or '.join(_SUFFIXES)}"
        raise InputError(msg)
    size = _size(args.size)
    if args.precision == "int8" and not (args.frames and out.suffix == ".onnx"):
        msg = "--precision int8: expected an .onnx file to write and --frames SOURCE"
        raise InputError(msg)
    from ..backends.torch_ import read_network, require_torch

    require_torch()
    network, metadata = read_network(_weights(args), args.network, **_settings(args.set))
    report: dict[str, Any] = {
        "network": args.network,
        "file": str(out),
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    if out.suffix == ".safetensors":
        from ..networks.checkpoint import save_network

        save_network(network, out, metadata)
    else:
        report |= _export_and_check(network, out, size, metadata, args.frames)
    if args.json:
        print_json(report)
    else:
        _print_report(report)
    return 0


def _export_and_check(
    network: Any,
    out: Path,
    size: tuple[int, int] | None,
    metadata: dict[str, str],
    frames: str | None,
) -> dict[str, Any]:
    """Export beside the target, and move there what torch agrees with."""
    from ..backends.comparison import compare_with_torch
    from ..networks.export import export_onnx

    partial = out.with_name(f".{out.stem}.unchecked.onnx")
    try:
        export_onnx(network, partial, size=size, metadata=metadata)
        sizes = [size] if size else [*_TRIED_SIZES]
        differences = compare_with_torch(partial, network, sizes)
        if frames is None:
            partial.replace(out)
        else:
            from ..backends.quantisation import quantise_onnx

            quantise_onnx(partial, out, _examples(frames, partial))
    finally:
        partial.unlink(missing_ok=True)
    return {
        "size": list(size) if size else None,
        "precision": "int8" if frames else "fp32",
        "bytes": out.stat().st_size,
        "difference_to_torch": differences,
    }


def _examples(source: str, graph: Path) -> Iterator[dict[str, Any]]:
    """Prepare frames of a source, from its beginning to its end, as the graph takes them."""
    from ..completers import open_completer
    from ..datasets import open_source

    dataset = open_source(source)
    with open_completer(backend="onnxruntime", device="cpu", weights=str(graph)) as completer:
        for index in range(0, len(dataset), max(1, -(-len(dataset) // _MAX_EXAMPLES))):
            frame = dataset[index]
            yield completer.prepare(frame, completer.project(frame)).arrays


def _weights(args: argparse.Namespace) -> Path:
    if args.weights:
        path = Path(args.weights)
        if not path.is_file():
            msg = f"{args.weights}: no such file; expected weights"
            raise ModelFileError(msg)
        return path
    try:
        return find_share_file(f"models/{args.network}.safetensors")
    except InputError:
        msg = f"{args.network}: no weights of it come with this package; give --weights FILE"
        raise ModelFileError(msg) from None


def _size(text: str | None) -> tuple[int, int] | None:
    """Read WIDTHxHEIGHT as height and width."""
    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        msg = f"--size: found {text!r}, expected WIDTHxHEIGHT in pixels"
        raise InputError(msg)
    return int(height), int(width)


def _settings(texts: list[str]) -> dict[str, Any]:
    """Read `size=mini` and `width=0.5` as settings of a network."""
    settings: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not value:
            msg = f"--set: found {text!r}, expected SETTING=VALUE"
            raise InputError(msg)
        try:
            settings[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            settings[name] = value
    return settings


def _print_report(report: dict[str, Any]) -> None:
    print(f"{report['file']}: {report['network']}, {report['parameters']} parameters")
    if "bytes" not in report:
        return
    size = report["size"]
    takes = f"images of {size[1]}x{size[0]}" if size else "images of any size"
    print(f"{report['bytes'] / 1e6:.2f} MB, {report['precision']}, for {takes}")
    worst = max(report["difference_to_torch"].values())
    print(f"ONNX Runtime and torch agree to {worst:.2g} in all outputs of fp32")
