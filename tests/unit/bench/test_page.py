"""The bench's page and its plots, from a results document."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image

from ctgen.bench import plots
from ctgen.bench.models import ModelSpec
from ctgen.bench.page import write_page
from ctgen.bench.product import Product, store
from ctgen.bench.rows import clearly_best, real_scores, rows_of
from ctgen.interfaces import Report
from ctgen.volume import Volume
from tests.unit.bench.test_tables import document, score
from tests.unit.report.test_html import EVIL, Page


def compared(first, second, key, value, better, p):
    return {
        "first": first, "second": second, "metric": "m", "key": key, "value": value, "n": 4, "low": value - 0.5,
        "high": value + 0.5, "p": p, "test": "paired permutation", "better": better,
    }  # fmt: skip


def whole(p=0.01):
    """Two models with a clear difference, the real scans' own value, a curve by block, a failure, a copy."""
    found = document()
    found["models"]["broken"]["error"] = f"case w: {EVIL}\ncase x: too"
    one = found["protocols"]["p"]
    for name, result in one["results"].items():
        values = result["values"]["m"]
        values["error"] |= {"low": 1.0, "high": 3.0}
        values["error.lung"] = score(1.0)
        values["error_real"] = score(0.25, None, meaning="floor: of the real scans")
        values["error_reconstructed"] = score(0.125, None, meaning="floor: reconstructed")
        result["extra"] = {"m": {"hu_distance_by_block": {} if name == "floor" else {"w": [1.0, 4.0], "x": [3.0]}}}
    one["results"]["a"]["extra"]["m"]["flagged"] = {"w": {"training_case": "t7", "distance": 0.0}}
    one["comparisons"] = [compared("a", "b", "error", 1.0, "b", p), compared("a", "b", "steps", 0.0, "", 1.0)]
    one["comparisons"][1] |= {"low": 0.0, "high": 0.0}
    one["definition"]["extractors"] = {"net": {"network": "net 1", "weights": {"label": "MINI", "sha256": "ab" * 32}}}
    return found


@dataclass
class Prepared:
    real: Volume
    labels: dict = field(default_factory=lambda: {"Cardiomegaly": 1, "Emphysema": 0})

    def volume(self, case_id):
        return self.real

    def record(self, case_id):
        return {"labels": self.labels}


class Cases:
    ids = ("w", "x")

    def __init__(self, real):
        self.prepared = Prepared(real)

    def given(self, case_id):
        return Report(findings=f"Big heart. {EVIL}")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    real = Volume.canonical(np.random.default_rng(0).normal(0, 200, (8, 16, 16)).astype(np.int16), (10.0, 10.0, 10.0))
    made = Product(ModelSpec("a", "recipe", "a.yaml"), folder=folder / "a")
    store(made.volume("w"), made.json("w"), "w", real, real, {"boundaries": [4], "note": ""})
    lost = Product(ModelSpec("broken", "recipe", "b.yaml"), error="it broke")
    return write_page(folder / "report.html", whole(), [made, lost], Cases(real)).read_text(encoding="utf-8")


def row(page, key):
    return re.search(rf"<tr[^>]*><th scope=\"row\" class=\"metric\">[^/]*</span> {key}.*?</tr>", page).group()


def test_it_is_one_well_formed_file_that_loads_nothing(page):
    parsed = Page(page.replace("<wbr>", ""))
    assert parsed.open == [] and "<script" not in page and EVIL in parsed.seen
    for tag, attributes in parsed.tags:
        for name in ("src", "href"):
            if name in attributes:
                assert attributes[name].startswith(("data:image/png;base64,", "#")), tag
    assert all(attributes["alt"] for tag, attributes in parsed.tags if tag == "img")
    targets = {attributes["href"][1:] for tag, attributes in parsed.tags if tag == "a"}
    assert targets == {attributes["id"] for tag, attributes in parsed.tags if tag == "section"}


def test_what_went_wrong_stands_first(page):
    header = page[: page.index("</header>")]
    for text in (
        "FAILED broken: case w",
        "case x: too",
        "NOT RUN lost: net.pt",
        "COPIES a: too near to a training case: w of t7",
    ):
        assert text in header, text
    assert "WEIGHTS a: MINI" in header and "MEASURED BY p: MINI" in header and "N = 4 cases" in header
    assert re.search(r'<tr class="failed"><th scope="row">broken</th>', page)


def test_the_best_is_bold_and_starred_only_if_it_is_clearly_ahead(page):
    found = row(page, "error ↓")
    assert '<td class="number best">1.5 *<small>[1, 3]</small></td>' in found
    assert found.count("best") == 1
    unclear = whole(p=0.3)
    (error, *_) = rows_of(unclear, "p")
    assert not clearly_best(error, unclear, "p") and clearly_best(error, whole(), "p")


def test_the_real_scans_have_a_column_and_floors_that_repeat_columns_are_folded(page):
    assert '<td class="number soft">0.25</td>' in row(page, "error ↓")
    main = page[: page.index("<details>")]
    assert "error_<wbr>real<" not in page
    assert "error_<wbr>reconstructed" not in main and "error_<wbr>reconstructed" in page
    assert "of the real scans" in " ".join(text.meaning for text in rows_of(whole(), "p") if text.floor)


def test_models_of_other_cases_tell_their_own_real_scans():
    found = whole()
    found["protocols"]["p"]["results"]["b"]["values"]["m"]["error_real"]["n"] = 3
    assert real_scores(rows_of(found, "p"), found) == {}
    assert real_scores(rows_of(whole(), "p"), whole()).keys() == {("m", "error")}


def test_differences_name_who_is_ahead_and_what_is_equal(page):
    assert "a − b: a clearly ahead in 0, b in 1 of 1 numbers with a direction" in page
    assert "0.5 … 1.5" in page and "0.01 *" in page and "Equal: m: steps." in page


def test_pictures_say_what_is_seen_what_was_asked_for_and_who_is_not_there(page):
    assert "Axial slices at 88%, 62%, 38%, 12% of the height, a coronal and a sagittal one of case w; columns: real, a" in page
    assert "not there: broken" in page and "not there: a, broken" in page
    assert "Labels: Cardiomegaly\n" in page.replace("</blockquote>", "\n")


def test_provenance_is_open_to_the_eye(page):
    shown = page[page.index('id="provenance"') :]
    shown = shown[: shown.index("<details>")]
    for text in ("fingerprint 0123456789", "net net 1, weights MINI abababababab", "seed 0"):
        assert text in shown, text


def test_bars_leave_floors_out_and_their_alt_has_the_numbers(tmp_path):
    found = plots.bars(whole(), "p", tmp_path)
    assert [figure.caption for figure in found] == ["m: error ↓", "m: steps"]
    assert found[0].alt == "floor 0.5 [1, 3]; a 2.5 [1, 3]; b 1.5 [1, 3]; dashed, the real scans: 0.25"


def test_by_block_is_a_curve_of_means_of_the_models_that_have_blocks(tmp_path):
    (figure,) = plots.by_block(whole(), "p", tmp_path)
    assert figure.caption == "m: hu distance by block"
    assert figure.alt == "From block 0: a 2, 4; b 2, 4"
    with Image.open(figure.path) as picture:
        assert np.ptp(np.asarray(picture.convert("L"))) > 100


def test_details_are_one_picture_per_stem(tmp_path):
    (figure,) = plots.details(whole(), "p", tmp_path)
    assert figure.caption == "m: error ↓" and figure.note == "by tissue"
