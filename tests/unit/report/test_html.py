from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from ctgen.errors import MissingFileError
from ctgen.evaluate.configs import ContinuityConfig, CostConfig
from ctgen.evaluate.continuity import Continuity
from ctgen.evaluate.cost import Cost
from ctgen.evaluate.driver import evaluate
from ctgen.interfaces import EvaluationItem, Skipped
from ctgen.report.html import Figure, ReportContent, duration, image_html, write_report
from ctgen.report.score_table import number
from ctgen.volume import Volume

EVIL = '<script>alert("x")</script><img src=https://evil.example/x.png onerror=y>'
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")


def png_of(width, height):
    """As much of a PNG as its size stands in."""
    return PNG[:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + PNG[24:]


VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """Tags with attributes, the visible text, and whether every tag is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.seen = [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        self.seen += data


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "montage.png"
    path.write_bytes(PNG)
    return path


PROTOCOL = {"name": "recipe:<tiny>", "comparable": "the recipe's own metrics"}


def evaluation():
    hu = np.random.default_rng(0).normal(0, 100, (16, 8, 8)).astype(np.float32)
    made = Volume.canonical(hu, (3.0, 3.0, 3.0))
    items = [EvaluationItem(f"<b>{k}", real=made, generated=made, boundaries=(8,), seconds=k + 1.0) for k in range(4)]
    metrics = {"continuity": Continuity(ContinuityConfig()), "cost": Cost(CostConfig())}
    return evaluate(items, metrics, protocol=PROTOCOL).to_json()


def full(picture):
    return ReportContent(
        title=f"run {EVIL}",
        provenance={
            "recipe": EVIL,
            "weights": {"text_encoder": {"label": "random", "source": EVIL}, "backbone": {"label": "TRAINED"}},
            "versions": {"ctgen-framework": "0.1.0", "torch": "2.13"},
            "seeds": {"train": 7},
            "device": "cpu",
        },
        stages=[
            {"stage": "train", "seconds": 185.2, "summary": {"loss": 0.51234567, "note": EVIL}},
            {"stage": "sample", "skipped": True},
        ],
        metrics=evaluation(),
        figures=[
            Figure(picture, f"case {EVIL}", text=f"Findings: {EVIL}\nImpression: none"),
            Figure(picture, "loss", section="training"),
        ],
        skipped=[Skipped("slab", f"covers 75 mm {EVIL}")],
        recipe_yaml=f"name: x # {EVIL}\n",
        warnings=[EVIL],
    )


@pytest.fixture
def page(tmp_path, picture):
    return write_report(tmp_path / "out" / "report.html", full(picture)).read_text()


def test_it_is_well_formed_and_complete(page):
    parsed = Page(page)
    assert parsed.open == []
    assert [attributes["id"] for tag, attributes in parsed.tags if tag == "section"] == [
        "stages", "metrics", "pictures", "training", "skipped", "provenance", "recipe",
    ]  # fmt: skip
    for text in (
        "WEIGHTS text encoder: RANDOM",
        "WEIGHTS backbone: TRAINED",
        "N = 4 cases",
        "seed, train: 7",
        "device: cpu",
        "Protocol recipe:<tiny> (",
        "N = 4 cases; the recipe's own metrics.",
    ):
        assert text in parsed.seen
    for text in (
        "3 min 05 s",
        "loss: 0.5123",
        "seconds_per_volume",
        "covers 75 mm",
        "Impression: none",
        "versions.torch",
        "done before",
    ):
        assert text in parsed.seen


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs(page):
    parsed = Page(page)
    assert not {tag for tag, _ in parsed.tags} & {"script", "link", "iframe", "object", "base", "form"}
    for tag, attributes in parsed.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "srcset", "data", "action"):
                assert value.startswith(("data:image/png;base64,", "#")), value
    assert not re.search(r"url\(|@import", page)
    assert re.search(r"Content-Security-Policy\" content=\"default-src 'none'", page)


def test_text_from_reports_is_text(page):
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 8
    assert EVIL in Page(page).seen


def test_images_are_inlined_whole(page):
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert [base64.b64decode(data) for data in found] == [PNG, PNG]


def test_intervals_n_and_floors_stand_in_the_table(page):
    row = re.search(r"<tr class=\"score\"><td>seconds_per_volume ↓<small>generation.*?</tr>", page).group()
    assert re.search(r">2\.5<small>\[1\.\d+, 3\.\d+\]</small></td>", row) and ">4<" in row
    assert re.search(r"<tr class=\"floor\"><td>boundary_ratio_real<small>", page)


def test_lists_and_hashes_of_stages_are_brief(tmp_path):
    summary = {"mean": [0.125] * 9, "few": [1, 2], "weights_sha256": "ab" * 32}
    page = write_report(tmp_path / "r.html", ReportContent("x", stages=[{"stage": "encode", "summary": summary}])).read_text()
    assert "mean: 9 values; few: 1, 2; weights sha256: abababababab<" in page


def test_images_have_their_size_and_plots_are_twice_as_sharp(page):
    picture, plot = re.findall(r'<img class="(\w+)" alt="[^"]*" width="(\d+)"', page)
    assert picture == ("picture", "1") and plot == ("plot", "1")
    (width,) = re.findall(r'width="(\d+)"', image_html(png_of(300, 100), "", plot=True))
    assert width == "150"


def test_empty_content_is_still_a_page_without_empty_sections(tmp_path):
    parsed = Page(write_report(tmp_path / "r.html", ReportContent("nothing yet")).read_text())
    assert parsed.open == [] and "nothing yet" in parsed.seen
    assert not [tag for tag, _ in parsed.tags if tag in ("section", "table", "img")]


def test_a_missing_picture_is_named_and_no_half_page_is_left(tmp_path):
    content = ReportContent("x", figures=[Figure(tmp_path / "gone.png", "gone")])
    with pytest.raises(MissingFileError, match=r"gone\.png"):
        write_report(tmp_path / "r.html", content)
    assert list(tmp_path.iterdir()) == []


def test_dollar_signs_in_texts_survive(tmp_path):
    assert "$body costs $5" in write_report(tmp_path / "r.html", ReportContent("$body costs $5")).read_text()


def test_durations_and_numbers_read_well():
    assert [duration(s) for s in (4.23, 59.97, 185, 7800)] == ["4.2 s", "1 min 00 s", "3 min 05 s", "2 h 10 min"]
    assert [number(v) for v in (1.0, 31.8432, -0.5, "inf", "nan", 123456.0)] == [
        "1",
        "31.84",
        "−0.5",
        "∞",
        "undefined",
        "1.235e+05",
    ]
