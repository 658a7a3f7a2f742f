from __future__ import annotations

import numpy as np
import pytest
import torch

from ctgen.atomic import write_json
from ctgen.data.labels import LABELS
from ctgen.data.latents import LatentStore, merge_parts, write_part
from ctgen.data.prepared import PreparedCases, write_case
from ctgen.data.source import Source
from ctgen.errors import DataError, StageError
from ctgen.interfaces import Case, Posterior, Report, TextFeatures
from ctgen.testing import phantom


@pytest.fixture
def stores(tmp_path):
    parts = []
    for number, (name, split) in enumerate({"a": "train", "b": "valid", "c": "train"}.items()):
        volume = phantom(seed=number)
        write_case(tmp_path, Case(name, volume, Report(name), split=split), volume, {})
        part = tmp_path / f"{name}.h5"
        features = TextFeatures(torch.full((1, 2, 4), number + 0.5), torch.ones((1, 2), dtype=torch.bool))
        write_part(part, Posterior(torch.full((1, 3, 12, 2, 2), float(number))), features)
        parts.append((name, part))
    merge_parts(parts, tmp_path / "latents.h5")
    cases = [{"id": name, "split": split} for name, split in (("a", "train"), ("b", "valid"), ("c", "train"))]
    write_json(tmp_path / "manifest.json", {"cases": cases, "skipped": [{"id": "d", "reason": "slab"}]})
    return PreparedCases(tmp_path), LatentStore(tmp_path / "latents.h5")


def test_an_index_means_the_same_case_everywhere(stores):
    source = Source(*stores, "train")
    assert source.ids == ["a", "c"]
    for index, (name, number) in enumerate((("a", 0), ("c", 2))):
        assert source.record(index)["id"] == name
        assert (source.posterior(index).mean == number).all()
        assert (source.text(index).tokens == number + 0.5).all()
        assert np.array_equal(source.volume(index).numpy(), phantom(seed=number).hu)
    assert Source(*stores, "valid").ids == ["b"]


def test_volumes_are_float_and_may_be_read_in_part(stores):
    source = Source(*stores, "train")
    whole = source.volume(1)
    assert whole.dtype == torch.float32
    assert whole.shape == (12, 32, 32)
    assert torch.equal(source.volume(1, slice(3, 7)), whole[3:7])
    # a tensor of its own: writing into it must not reach the file
    source.volume(1)[:] = 0
    assert torch.equal(source.volume(1), whole)


def test_masks_say_what_is_where_and_what_is_known(stores, tmp_path):
    assert Source(*stores, "train").masks(0) is None
    volume = phantom()
    labels = {"Lung nodule": 1, "Emphysema": 1, "Cardiomegaly": 0}
    case = Case("c", volume, labels=labels, masks={"Lung nodule": volume.hu > 30})
    write_case(tmp_path, case, volume, {})
    bits, known = Source(PreparedCases(tmp_path), None, "train").masks(1)
    assert (bits.dtype, known.dtype) == (torch.int32, torch.bool)
    assert torch.equal(bits, torch.from_numpy(volume.hu > 30).int() << LABELS.index("Lung nodule"))
    assert [label for label, one in zip(LABELS, known.tolist(), strict=True) if one] == ["Cardiomegaly", "Lung nodule"]
    bits |= 1  # a tensor of its own


def test_latents_are_refused_to_an_objective_that_declared_none(stores):
    source = Source(stores[0], None, "train")
    with pytest.raises(StageError, match="declares that it reads volumes"):
        source.posterior(0)
    assert source.volume(0).shape == (12, 32, 32)


def test_an_empty_split_says_what_became_of_the_cases(stores, tmp_path):
    manifest = {"cases": [{"id": "a", "split": "train"}], "skipped": [{"id": "d", "reason": "slab"}]}
    write_json(tmp_path / "manifest.json", manifest)
    with pytest.raises(DataError, match=r"no valid cases are left after preparation \(1 prepared, 1 left out\)"):
        Source(PreparedCases(tmp_path), None, "valid")
