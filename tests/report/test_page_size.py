"""A page stays one that a browser opens: beyond its size files are named instead of embedded."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cmmulti.media import Picture, Player
from cmmulti.report import Part, ResultFolder, Results, Section, page, read_results, write_page, write_results
from cmmulti.report.results import RowRecord, SectionRecord


def saved(folder: Path, *sounds: int) -> str:
    """The page of one result: a player with a picture for each number of bytes, and a picture at the end."""
    players = [Player(bytes(size), f"sound {i}", Picture(b"p" * 100, "spectrogram")) for i, size in enumerate(sounds)]
    with ResultFolder(folder) as target:
        target.write(
            Results(command="c", model="m", task="inpaint"),
            [Section("Result, seed 0", media=players), Section("Together", media=[Picture(b"p" * 100, "mean")])],
        )
    return (folder / "index.html").read_text()


def test_a_single_result_embeds_what_fits_and_names_the_files_of_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "EMBEDDED", 1000)
    html = saved(tmp_path / "out", 300, 700, 200)
    assert html.count("<img") == 4  # pictures first: they say what is in the files
    assert html.count("<audio") == 2
    missing = "sounds/01-result-seed-0-02.wav"
    assert f'<a href="{missing}">{missing}</a>' in html
    assert (tmp_path / "out" / missing).stat().st_size == 700
    assert "1 of 7 pictures and sounds" in html
    assert html.index("sound 0") < html.index(missing) < html.index("sound 1") < html.index("sound 2")
    first = (tmp_path / "out" / "index.html").read_bytes()
    assert write_page(tmp_path / "out").read_bytes() == first


def test_where_all_fits_nothing_is_said(tmp_path: Path) -> None:
    html = saved(tmp_path / "out", 300, 700, 200)
    assert html.count("<audio") == 3
    assert "<a href" not in html
    assert "left out" not in html
    assert "leaves out" not in html


def test_pictures_beyond_the_size_are_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "EMBEDDED", 150)
    html = saved(tmp_path / "out", 10)
    assert html.count("<img") == 1
    assert html.count("<audio") == 1
    assert '<a href="pictures/02-together-01.png">' in html


def test_a_page_of_the_largest_size_is_below_50_megabytes(tmp_path: Path) -> None:
    html = saved(tmp_path / "out", *([5_000_000] * 12))
    assert 40_000_000 < len(html) < 50_000_000
    assert html.count("<audio") == 7


def test_what_a_page_shows_itself_leaves_less_for_its_parts(
    tmp_path: Path, make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "out", 300)
    make(tmp_path / "out" / "a")
    size = sum(path.stat().st_size for path in (tmp_path / "out" / "a").glob("*s/*"))
    write_results(read_results(tmp_path / "out").model_copy(update={"parts": [Part(folder="a")]}), tmp_path / "out")
    for room, linked in ((499, True), (500, False)):
        monkeypatch.setattr(page, "EMBEDDED", size + room)
        assert ("its own page" in write_page(tmp_path / "out").read_text()) == linked


def in_rows(folder: Path) -> Results:
    """The media of a result as a comparison has them: side by side in a row."""
    media = [record for section in read_results(folder).sections for record in section.media]
    section = SectionRecord(title="Side by side", rows=[RowRecord(title="ctm", media=media)])
    return Results(command="", model="m", task="compare", sections=[section])


def test_media_in_rows_are_named_where_they_stand(
    tmp_path: Path, make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(tmp_path / "a")
    side_by_side = in_rows(folder)
    monkeypatch.setattr(page, "EMBEDDED", 0)
    html = write_page(folder, side_by_side).read_text()
    assert "<img" not in html
    assert "<audio" not in html
    named = re.findall(r'<a href="([^"]+)"', html[html.index("<td>") : html.rindex("</td>")])
    files = [record.file for record in side_by_side.sections[0].rows[0].media]
    assert named == [*files[:-1], "pictures/02-sounds-01.png", files[-1]]


def test_beyond_its_size_a_page_links_instead(
    tmp_path: Path, make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "a")
    make(tmp_path / "b")
    size = sum(path.stat().st_size for path in (tmp_path / "a").glob("*s/*"))
    monkeypatch.setattr(page, "EMBEDDED", size)
    html = write_page(tmp_path).read_text()
    assert html.count("<audio") == 1
    assert 'on <a href="b/index.html">its own page' in html


def test_pictures_in_rows_count_towards_the_size(
    tmp_path: Path, make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(tmp_path / "a")
    side_by_side = in_rows(folder)
    write_results(side_by_side, folder)
    monkeypatch.setattr(page, "EMBEDDED", 100)
    assert "<img" not in write_page(tmp_path).read_text()
