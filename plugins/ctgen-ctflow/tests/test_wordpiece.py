"""The folders that CXR-BERT's tokenizer comes in, and vocabularies that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ctgen_ctflow.ct_clip_text import SHIPPED_VOCABULARY
from ctgen_ctflow.wordpiece import TextCounts, WordPiece
from tokenizers import BertWordPieceTokenizer
from transformers import BertTokenizer

from ctgen.atomic import write_json
from ctgen.errors import CheckpointError

MINI = SHIPPED_VOCABULARY["mini"]
TEXTS = (
    "Trachea, both main bronchi are open: 12 mm nodule (right)!",
    "No pleural-effusion; cardiomegaly?",
    "Überlappung naïve",
    "",
)


def vocabulary() -> dict[str, int]:
    return {token: index for index, token in enumerate(MINI.read_text(encoding="utf-8").splitlines())}


@pytest.mark.parametrize("layout", ["vocab.txt alone", "with config", "tokenizer.json alone", "both", "the json itself"])
def test_layouts_agree_with_transformers(layout: str, tmp_path: Path) -> None:
    if "json" not in layout:
        (tmp_path / "vocab.txt").write_text(MINI.read_text(encoding="utf-8"), encoding="utf-8")
    if layout not in ("vocab.txt alone", "with config"):
        BertWordPieceTokenizer(vocabulary(), lowercase=True).save(str(tmp_path / "tokenizer.json"))
    if layout in ("with config", "both"):
        write_json(
            tmp_path / "tokenizer_config.json",
            {
                "do_lower_case": True,
                "strip_accents": None,
                "tokenize_chinese_chars": True,
                "tokenizer_class": "CXRBertTokenizer",
            },
        )
    found = WordPiece(tmp_path / "tokenizer.json" if layout == "the json itself" else tmp_path, 64)
    theirs = BertTokenizer(vocab=vocabulary(), do_lower_case=True)
    for text in TEXTS:
        assert found.tokens(text) == theirs.convert_ids_to_tokens(theirs(text)["input_ids"])
    assert found.size == len(vocabulary())


def test_the_config_beside_a_vocabulary_counts(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text(MINI.read_text(encoding="utf-8") + "Heart\n", encoding="utf-8")
    assert WordPiece(tmp_path, 16).tokens("Heart") == ["[CLS]", "heart", "[SEP]"]
    write_json(tmp_path / "tokenizer_config.json", {"do_lower_case": False})
    assert WordPiece(tmp_path, 16).tokens("Heart") == ["[CLS]", "Heart", "[SEP]"]


def test_two_vocabularies_in_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text(MINI.read_text(encoding="utf-8") + "heartbeat\n", encoding="utf-8")
    BertWordPieceTokenizer(vocabulary(), lowercase=True).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CheckpointError, match=r"vocab.txt \(1165 tokens\) and tokenizer.json \(1164 tokens\)"):
        WordPiece(tmp_path, 16)


def test_vocabularies_that_do_not_fit_tell_their_unknown_rate(tmp_path: Path) -> None:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "der", "die", "das", "."]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens) + "\n")
    with pytest.raises(CheckpointError, match=r"9\d% of an ordinary report's words are \[UNK\]"):
        WordPiece(tmp_path, 16)
    (tmp_path / "vocab.txt").unlink()
    with pytest.raises(CheckpointError, match=r"no vocab.txt and no tokenizer.json"):
        WordPiece(tmp_path, 16)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": {}}}))
    with pytest.raises(CheckpointError, match="no WordPiece tokenizer but BPE"):
        WordPiece(tmp_path, 16)


def test_cut_and_unknown_are_counted() -> None:
    tokeniser = WordPiece(MINI, 8)
    ids, mask, counts = tokeniser.encode(["heart " * 20, "heart", "\u4e2d heart"])
    assert ids.shape == (3, 8) and mask.sum(1).tolist() == [8, 3, 4]
    assert (
        counts
        == TextCounts(texts=3, cut=1, longest=22, tokens=6 + 1 + 2, unknown=1)
        == tokeniser.count(["heart " * 20, "heart", "\u4e2d heart"])
    )
    assert (counts + counts).cut == 2 and (counts + counts).longest == 22 and counts.unknown_rate == 1 / 9
    assert tokeniser.encode([])[0].shape == (0, 0) and TextCounts().unknown_rate == 0.0
