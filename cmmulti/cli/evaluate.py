"""``cmmulti evaluate``: the figures of a model on held-out data."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="measure a model on held-out data",
        description="Measure a model on held-out data. Without --task: samples in 1, 2, 4 steps against the data set "
        "(label accuracy of an independent classifier, Fréchet distance beside its floor, precision and recall, signs of "
        "memorised items). With --task: an edit or a reconstruction of held-out items beside simpler answers. Started by "
        "`accelerate launch`, several processes share the sampling and give the same samples.",
    )
    parser.add_argument("model", metavar="MODEL", help="a model folder or a shipped name")
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="the folder that holds the data sets")
    parser.add_argument("--dataset", metavar="NAME", help="the data set (default: the one that the model card names)")
    parser.add_argument(
        "--data-option", action="append", default=[], metavar="KEY=VALUE", help="an option of the data set; repeatable"
    )
    parser.add_argument("--split", choices=("test", "val"), default="test", help="the held-out part (default: test)")
    parser.add_argument("--n", type=int, default=1000, help="samples per row, or most items of a task (default: 1000)")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4], help="numbers of steps (default: 1 2 4)")
    parser.add_argument("--teacher", metavar="MODEL", help="a denoising teacher to stand beside the model")
    parser.add_argument("--seed", type=int, default=0, help="of the first sample; the others follow (default: 0)")
    parser.add_argument("--task", metavar="NAME", help="evaluate this task instead of free samples")
    parser.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="an option of the task; repeatable"
    )
    parser.add_argument(
        "--tune",
        action="append",
        default=[],
        metavar="NAME:KEY=V1,V2,...",
        help="choose option KEY of the task by the PSNR of baseline NAME (or of `result`) on validation items; repeatable",
    )
    parser.add_argument("--tune-n", type=int, default=4, help="validation items for --tune (default: 4)")
    parser.add_argument(
        "--classifier-steps", type=int, default=1500, help="training steps of the classifier (default: 1500)"
    )
    parser.add_argument("--device", default="cpu", help="where the models run (default: cpu)")
    parser.add_argument("--overwrite", action="store_true", help="replace the results of an earlier run")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for results.json and index.html")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import shlex
    import sys

    from cmmulti.evaluation.request import Request, evaluate

    fields = {name: getattr(args, name) for name in Request.__dataclass_fields__ if name != "command"}
    path = evaluate(Request(**fields, command=shlex.join(["cmmulti", *sys.argv[1:]])), lambda line: print(line, flush=True))
    if path is not None:
        print(f"figures: {path / 'results.json'}, page: {path / 'index.html'}")
    return 0
