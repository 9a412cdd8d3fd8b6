"""The YAML head of a model card, in the words of Hugging Face's cards."""

from __future__ import annotations

import re
from typing import Any

from cmmulti.config.text import parse_yaml
from cmmulti.errors import UserError

HEAD = re.compile(r"---\n(.*?)\n---", re.DOTALL)


def head_of(card: str) -> dict[str, Any]:
    """The fields of a card's head; empty where it has none or a damaged one."""
    found = HEAD.match(card)
    try:
        fields = parse_yaml(found[1], "card") if found else None
    except UserError:
        return {}
    return fields if isinstance(fields, dict) else {}
