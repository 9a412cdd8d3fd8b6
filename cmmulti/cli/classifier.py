"""``cmmulti classifier CONFIG --out DIR``: train the feature network of a perceptual training distance."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cmmulti.cli.common import add_overrides, seed, whole

DESCRIPTION = """\
Train a small classifier on the labels of a run's data. Its inner layers say how alike two tensors look: `cd`, `ct`, `ctm`
and `lcm` compare them in place of pixels (LPIPS) where the config says

  method: {name: cd, distance: {name: classifier, path: DIR}}

The modality and the data are those of CONFIG, the config of that run."""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "classifier",
        help="train a feature network for perceptual distances",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=Path, metavar="CONFIG", help="YAML file of the run that will use it")
    add_overrides(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder for weights and config")
    parser.add_argument("--steps", type=whole, default=1500, metavar="N", help="training steps (default: 1500)")
    parser.add_argument("--seed", type=seed, default=0, metavar="S", help="seed of the training (default: 0)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from cmmulti.cli.common import stoppable
    from cmmulti.config import load_config
    from cmmulti.errors import UserError
    from cmmulti.evaluation.classifier import Training
    from cmmulti.evaluation.feature_network import train_feature_network
    from cmmulti.training.sources import build_modality, data_source

    stoppable()
    config = load_config(args.config, args.set)
    if config.joint:
        raise UserError(f"{args.config}: joint: a classifier is of one modality; expected a config without this section")
    source = data_source(config)
    modality = build_modality(config).measured(source)
    about = train_feature_network(modality, source, args.out, Training(args.steps, seed=args.seed), print)
    if about.accuracy is not None:
        print(f"{100 * about.accuracy:.1f} % of {about.heldout} held-out items are classified correctly")
    print(args.out)
