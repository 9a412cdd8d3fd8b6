"""``cmmulti convert``: make a model folder from a diffusers model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

DESCRIPTION = """\
Make a denoising teacher from a diffusers folder: a UNet2DModel and its scheduler (DDPM's process predicting epsilon or v,
or flow matching). It is then sampled, evaluated and distilled like any other; a student starts from its weights with
`network.name: init`. Safetensors only. Needs `pip install cmmulti[diffusers]`."""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser("convert", help="make a model folder from a diffusers model", description=DESCRIPTION)
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="a pipeline of diffusers, or a UNet2DModel with its scheduler"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="model folder to write")
    parser.add_argument("--modality", default="image", metavar="NAME", help="what its tensors are (default: image)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the modality; repeatable"
    )
    parser.add_argument("--null-class", action="store_true", help="the last class means 'no class'; needed for guidance")
    parser.add_argument("--sigma-max", type=float, metavar="S", help="highest noise level (default: its last, at most 80)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from cmmulti.conversion import from_diffusers

    from_diffusers(args.folder, args.modality, args.set, args.null_class, args.sigma_max).save_pretrained(args.out)
    print(args.out)
