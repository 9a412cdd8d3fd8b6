"""What an adapter renders and a page shows: pictures and players, as bytes with their captions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Picture:
    """A PNG.

    Args:
        png: the encoded file. caption: shown below it. alt: what a reader who cannot see it is told.
        pixelated: enlarge by whole pixels, for pictures of a few pixels. width: CSS pixels to show it at, None for its own.
    """

    png: bytes
    caption: str = ""
    alt: str = ""
    pixelated: bool = False
    width: int | None = None


@dataclass(frozen=True)
class Player:
    """A sound with its picture (spectrogram).

    Args:
        wav: the encoded file, any format that browsers play. picture: shown above the player.
    """

    wav: bytes
    caption: str = ""
    picture: Picture | None = None
    mime: str = "audio/wav"


Media = Picture | Player
