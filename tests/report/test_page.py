"""The page: self-contained, escaped, made again from its folder alone."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from cmmulti.errors import UserError
from cmmulti.report import Part, Results, gather, read_results, write_page, write_results
from cmmulti.report.figures import figure
from cmmulti.report.page import check_replaceable, comparison
from cmmulti.report.results import RowRecord, SectionRecord


class Links(HTMLParser):
    """Everything that a browser would fetch."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [
            (tag, value or "") for name, value in attributes if name in ("src", "href", "srcset", "poster", "data")
        ]


def test_nothing_is_fetched(tmp_path: Path, make: Callable[..., Path]) -> None:
    html = (make(tmp_path / "out") / "index.html").read_text()
    links = Links(html).found
    assert [tag for tag, value in links if not value.startswith("data:")] == []
    assert {"img", "audio"} <= {tag for tag, _ in links}
    assert not re.search(r"@import|url\((?!data:)|<script[^>]+src", html)


def test_what_users_write_is_escaped(tmp_path: Path, make: Callable[..., Path]) -> None:
    bad = "<script>alert(1)</script>"
    html = (make(tmp_path / "out", command=bad, model=bad, notes=[bad], details={"title": bad}) / "index.html").read_text()
    assert "<script" not in html
    assert "a &lt;clip&gt; &amp; more" in html


def test_the_page_can_be_made_again(tmp_path: Path, make: Callable[..., Path]) -> None:
    folder = make(tmp_path / "out")
    first = (folder / "index.html").read_bytes()
    (folder / "index.html").unlink()
    write_page(folder)
    assert (folder / "index.html").read_bytes() == first


def test_small_pictures_keep_their_pixels(tmp_path: Path, make: Callable[..., Path]) -> None:
    html = (make(tmp_path / "out") / "index.html").read_text()
    assert html.count('class="pixelated" width="64"') == 3


def test_notes_provenance_and_figures_are_shown(tmp_path: Path, make: Callable[..., Path]) -> None:
    figures = {"metrics": {"psnr": 30.125, "nmse": 0.01}, "baselines": {"zero_filled": {"psnr": 25.0, "nmse": 0.02}}}
    note = "simulated from magnitude images, optimistic"
    html = (make(tmp_path / "out", notes=[note], levels=[80.0, 0.8], **figures) / "index.html").read_text()
    for words in (
        note,
        "PSNR (dB)",
        "higher is better",
        "zero filled",
        "cmmulti sample m --out x",
        "80, 0.8",
        "2 per sample",
    ):
        assert words in html
    assert re.search(r'class="best">30\.1', html)


def test_several_folders_share_a_page(tmp_path: Path, make: Callable[..., Path]) -> None:
    make(tmp_path / "a", task="sample")
    make(tmp_path / "b", task="inpaint")
    html = write_page(tmp_path).read_text()
    assert [value for tag, value in Links(html).found if tag == "a" and "/" in value] == ["a/index.html", "b/index.html"]
    assert html.count("<audio") == 2


def test_links_to_parts_hold_whatever_their_folders_are_called(tmp_path: Path, make: Callable[..., Path]) -> None:
    names = ["50%41", "a#b", *(["a?b", "run 12:30"] if os.name == "posix" else []), "été"]
    for name in names:
        make(tmp_path / name)
    links = [urlsplit(value) for tag, value in Links(write_page(tmp_path).read_text()).found if tag == "a" and "/" in value]
    assert [unquote(link.path) for link in links] == [f"{name}/index.html" for name in names]
    assert not any(link.scheme or link.query or link.fragment for link in links)


@pytest.mark.skipif(os.name != "posix", reason="names that other systems refuse")
def test_a_folder_whose_name_results_cannot_hold_is_named(tmp_path: Path, make: Callable[..., Path]) -> None:
    make(tmp_path / "c:x")
    with pytest.raises(UserError, match=r"c:x: .*rename"):
        gather(tmp_path)


def test_parts_of_one_title_are_told_apart(tmp_path: Path, make: Callable[..., Path]) -> None:
    make(tmp_path / "first")
    make(tmp_path / "second")
    html = write_page(tmp_path).read_text()
    for words in ("Sample · m (first)", "Sample · m (second)"):
        assert f"<h2>{words}</h2>" in html
        assert f">{words}</a>" in html


def test_a_part_without_costs_has_no_stray_dot(tmp_path: Path, make: Callable[..., Path]) -> None:
    make(tmp_path / "a", nfe=None, seconds=None, outputs=[])
    html = write_page(tmp_path).read_text()
    assert '<p class="lede"><a href="a/index.html">' in html
    assert '<p class="lede"></p>' not in html


def test_players_have_names(tmp_path: Path, make: Callable[..., Path]) -> None:
    html = (make(tmp_path / "out") / "index.html").read_text()
    assert '<audio controls aria-label="a &lt;clip&gt; &amp; more"' in html
    player = read_results(tmp_path / "out").sections[1].media[0].model_copy(update={"caption": ""})
    section = SectionRecord(title="Side by side", columns=["seed 7"], rows=[RowRecord(title="ctm, 1 NFE", media=[player])])
    html = write_page(tmp_path / "out", Results(command="", model="m", task="compare", sections=[section])).read_text()
    assert '<audio controls aria-label="ctm, 1 NFE, seed 7"' in html


def test_details_in_any_alphabet_are_shown_as_they_are(tmp_path: Path, make: Callable[..., Path]) -> None:
    html = (make(tmp_path / "out", details={"options": {"mask": "маска.png"}}) / "index.html").read_text()
    assert "маска.png" in html


def test_long_words_do_not_widen_a_narrow_page(tmp_path: Path, make: Callable[..., Path]) -> None:
    html = (make(tmp_path / "out") / "index.html").read_text()
    wrapped = " ".join(re.findall(r"([^{}]+)\{[^}]*overflow-wrap: anywhere", html))
    for what in ("p,", "nav a", "td:first-child"):
        assert what in wrapped


def test_nothing_is_cut_off_in_print(tmp_path: Path, make: Callable[..., Path]) -> None:
    html = (make(tmp_path / "out") / "index.html").read_text()
    printed = html.partition("@media print")[2]
    assert ".scroll { overflow: visible" in printed


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0444, "0.044 s"), (9.96, "10 s"), (59.4, "59 s"), (59.7, "1 min 0 s"), (119.8, "2 min 0 s")]
)
def test_durations_are_rounded_once(tmp_path: Path, make: Callable[..., Path], seconds: float, text: str) -> None:
    html = (make(tmp_path / "out", seconds=seconds) / "index.html").read_text()
    assert f"<dd>{text} on cpu" in html


def test_parts_have_their_own_titles(tmp_path: Path, make: Callable[..., Path]) -> None:
    make(tmp_path / "a")
    parts = [Part(folder="a", title="The first", text="Words.")]
    write_results(Results(command="", model="", task="demo", parts=parts), tmp_path)
    html = write_page(tmp_path).read_text()
    assert "The first" in html
    assert "Words." in html


def test_a_missing_picture_is_named(tmp_path: Path, make: Callable[..., Path]) -> None:
    folder = make(tmp_path / "out")
    (folder / "pictures" / "01-samples-01.png").unlink()
    with pytest.raises(UserError, match=r"01-samples-01\.png: no such file"):
        write_page(folder)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, make: Callable[..., Path]) -> None:
    folder = make(tmp_path / "out")
    (tmp_path / "secret").write_text("x")
    (folder / "pictures" / "01-samples-01.png").unlink()
    (folder / "pictures" / "01-samples-01.png").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match="leads out of the result folder"):
        write_page(folder)


@pytest.mark.parametrize("made", [False, True])
def test_a_folder_without_results_is_refused(tmp_path: Path, made: bool) -> None:
    folder = tmp_path / "x"
    if made:
        folder.mkdir()
    with pytest.raises(UserError, match="expected a result folder"):
        gather(folder)


def test_the_best_of_each_figure_is_marked() -> None:
    table = comparison({"psnr": 30.0, "nmse": 0.02, "seam": 0.9}, {"tv": {"psnr": 29.0, "nmse": 0.01, "seam": 1.3}})
    best = {head.name: [mark for _, mark in cells] for head, cells in table["rows"]}
    assert best == {"PSNR": [True, False], "NMSE": [False, True], "seam step over local step": [True, False]}


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("psnr", 31.236, "31.24"),
        ("psnr", None, "–"),
        ("accuracy", 0.987, "98.7"),
        ("nmse", 1.5e-6, "1.50e-06"),
        ("nmse", 0.0, "0.0000"),
    ],
)
def test_figures_are_rounded_and_scaled(key: str, value: float | None, text: str) -> None:
    assert figure(key).text(value) == text


def test_another_page_is_not_written_over(tmp_path: Path, make: Callable[..., Path]) -> None:
    folder = make(tmp_path / "out")
    check_replaceable(folder / "index.html")
    (folder / "index.html").write_text("<title>my own home page</title>")
    with pytest.raises(UserError, match="was not made by cmmulti and would be lost"):
        check_replaceable(folder / "index.html")
