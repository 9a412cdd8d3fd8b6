"""The Python in the docs runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from cmmulti.config import DataConfig, EMAConfig, OptimizerConfig, PieceConfig, RunConfig

DOCS = Path(__file__).parents[2] / "docs"
BLOCKS = re.findall(r"```python\n(.*?)```", (DOCS / "extending.md").read_text(encoding="utf-8"), re.DOTALL)


def test_extending_runs_from_top_to_bottom() -> None:
    names = {"__name__": "docs"}
    for number, block in enumerate(BLOCKS, 1):
        exec(compile(block, f"docs/extending.md, block {number}", "exec"), names)


def anchors(page: Path) -> set[str]:
    """What a page's headings are called in links."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def test_every_local_link_leads_somewhere() -> None:
    root = DOCS.parent
    for page in [
        *DOCS.glob("*.md"),
        *root.glob("*/README.md"),
        *root.glob("modalities/*/models/*/*.md"),
        root / "README.md",
    ]:
        for link in re.findall(r"\]\((?!https?://)([^)]+)\)", page.read_text(encoding="utf-8")):
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            assert target.exists(), f"{page.name} links to {link}"
            assert not anchor or anchor in anchors(target), f"{page.name} links to {link}"


def test_the_page_of_configs_names_every_key_and_its_default() -> None:
    page = (DOCS / "configs.md").read_text(encoding="utf-8")
    sections = {"": RunConfig, "data": DataConfig, "optimizer": OptimizerConfig, "ema": EMAConfig}
    sections |= {
        n: type(RunConfig.model_fields[n].default) for n in ("trainer", "checkpoint", "preview", "validation", "log")
    }
    rows: dict[str, dict[str, str]] = {"": {}}
    section = ""
    for line in [each for each in page.splitlines() if each.startswith("|")]:
        left, right = (cell.strip() for cell in line.split("|")[1:3])
        if left.startswith("**"):
            section = left.strip("*")
            rows[section] = {}
        names = re.findall(r"`(\w+)`", left)
        defaults = right.split(", ") if names else []
        rows[section] |= dict(zip(names, defaults * len(names) if len(defaults) == 1 else defaults, strict=True))
    for name, kind in sections.items():
        told = {k: v for k, v in rows[name].items() if k in kind.model_fields}
        pieces = {k for k, f in kind.model_fields.items() if k in sections or f.annotation is PieceConfig}
        assert told.keys() == kind.model_fields.keys() - pieces, name
        for key, default in told.items():
            field = kind.model_fields[key]
            actual = field.get_default(call_default_factory=True)
            told_value = yaml.safe_load(default) if default != "()" else ()
            expected = None if field.is_required() or actual is None else actual
            same = told_value == expected or float(told_value) == float(expected)
            assert same, f"{name}.{key}: {default!r}, is {expected!r}"
