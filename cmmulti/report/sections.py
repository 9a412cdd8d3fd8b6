"""Sections of a page: words with pictures, players and tables, and the files they become in a result folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cmmulti.media import Media, Picture
from cmmulti.report.results import MediaRecord, SectionRecord, Table

PICTURES, SOUNDS = "pictures", "sounds"
SUFFIXES = {"audio/wav": ".wav", "audio/flac": ".flac", "audio/ogg": ".ogg", "audio/mpeg": ".mp3"}


@dataclass(frozen=True)
class Section:
    """One section of a page.

    Args:
        title: its heading. text: a paragraph or several, parted by empty lines; plain text.
        media: pictures and players, shown side by side where there is room. tables: figures, below the media.
    """

    title: str
    text: str = ""
    media: Sequence[Media] = ()
    tables: Sequence[Table] = ()


def save_sections(sections: Sequence[Section], folder: Path) -> list[SectionRecord]:
    """Write the media of all sections below ``folder`` (``pictures/``, ``sounds/``) and return what names them."""
    return [_save_section(section, number, folder) for number, section in enumerate(sections, 1)]


def _save_section(section: Section, number: int, folder: Path) -> SectionRecord:
    stem = f"{number:02d}-{slug(section.title)}"
    media = [_save_media(piece, f"{stem}-{i:02d}", folder) for i, piece in enumerate(section.media, 1)]
    return SectionRecord(title=section.title, text=section.text, media=media, tables=list(section.tables))


def _save_media(piece: Media, stem: str, folder: Path) -> MediaRecord:
    if isinstance(piece, Picture):
        file = _write(folder, f"{PICTURES}/{stem}.png", piece.png)
        return MediaRecord(
            kind="picture",
            file=file,
            caption=piece.caption,
            alt=piece.alt or piece.caption,
            pixelated=piece.pixelated,
            width=piece.width,
        )
    picture = None if piece.picture is None else _save_media(piece.picture, stem, folder)
    file = _write(folder, f"{SOUNDS}/{stem}{SUFFIXES.get(piece.mime, '.bin')}", piece.wav)
    return MediaRecord(kind="player", file=file, caption=piece.caption, mime=piece.mime, picture=picture)


def _write(folder: Path, name: str, content: bytes) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return name


def slug(text: str) -> str:
    """``text`` as a file name: lower-case letters, digits and hyphens, at most 40 characters."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].rstrip("-") or "section"
