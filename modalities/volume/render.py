"""Scans as pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cmmulti.media import Media
from modalities.volume.item import Volume
from modalities.volume.settings import VolumeSettings


def render(
    panels: Mapping[str, Volume], settings: VolumeSettings, reference: str | None = None, mark: Any = None
) -> list[Media]:
    return []
