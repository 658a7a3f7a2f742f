"""BERT's WordPiece tokeniser over CXR-BERT's folder or file, uncased as CXR-BERT is.

Built on ``tokenizers`` directly: transformers 5 ignores ``BertTokenizer(vocab_file=...)`` and makes every word [UNK].
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import BertWordPieceTokenizer
from torch import Tensor

from ctgen.atomic import read_json
from ctgen.errors import CheckpointError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
HOW_TO_GET = (
    "CXR-BERT's vocab.txt is in microsoft/BiomedVLP-CXR-BERT-specialized on the Hugging Face hub; give it or the folder that "
    "holds it"
)
ORDINARY = (
    "Trachea and both main bronchi are open. No pleural effusion or thickening was observed in the right and left lung. "
    "The heart is normal in size. A nodule was seen in the upper lobe of the right lung."
)
"""A text that every vocabulary for chest CT reports has words for."""
MOST_UNKNOWN = 0.5
"""A larger share of [UNK] in ORDINARY means another language or a broken file."""


@dataclass(frozen=True)
class TextCounts:
    """What became of some texts: none is cut or misread silently."""

    texts: int = 0
    cut: int = 0
    """Texts that were longer than the limit."""
    longest: int = 0
    """Tokens of the longest text before it was cut, [CLS] and [SEP] included."""
    tokens: int = 0
    """Tokens that are kept, [CLS] and [SEP] left out."""
    unknown: int = 0
    """Those of them that are [UNK]."""

    def __add__(self, other: TextCounts) -> TextCounts:
        return TextCounts(
            self.texts + other.texts,
            self.cut + other.cut,
            max(self.longest, other.longest),
            self.tokens + other.tokens,
            self.unknown + other.unknown,
        )

    @property
    def unknown_rate(self) -> float:
        return self.unknown / self.tokens if self.tokens else 0.0


class WordPiece:
    """``path``: vocab.txt (one token per line, id = line number from 0), tokenizer.json, or a folder with either or both.

    In a folder, tokenizer_config.json may set ``do_lower_case``, ``strip_accents`` and ``tokenize_chinese_chars``.
    CheckpointError: no vocabulary, two that differ, or one that does not know the words of a report.
    """

    def __init__(self, path: Path, max_tokens: int) -> None:
        self.vocabulary, options, self.file = _read(path)
        missing = [token for token in SPECIAL if token not in self.vocabulary]
        if missing:
            raise CheckpointError(f"ct-clip: {self.file} is no BERT vocabulary: it lacks {', '.join(missing)}")
        self.size = 1 + max(self.vocabulary.values())
        self.max_tokens = max_tokens
        self.unknown = self.vocabulary["[UNK]"]
        self.padding = self.vocabulary["[PAD]"]
        self._tokenizer = BertWordPieceTokenizer(self.vocabulary, **{"lowercase": True, **options})
        self._tokenizer.enable_truncation(max_tokens)
        rate = self.count([ORDINARY]).unknown_rate
        if rate > MOST_UNKNOWN:
            raise CheckpointError(
                f"ct-clip: {self.file} does not fit chest CT reports: {rate:.0%} of an ordinary report's words are [UNK]",
                hint=HOW_TO_GET,
            )

    def must_fit(self, rows: int, weights: Path) -> None:
        """CheckpointError if ``weights`` were made with a vocabulary of another size."""
        if self.size != rows:
            rate = self.count([ORDINARY]).unknown_rate
            raise CheckpointError(
                f"ct-clip: {self.file} has {self.size} tokens, {weights} was made with {rows}; with this vocabulary {rate:.0%} "
                "of an ordinary report's words are [UNK], and ids mean other words",
                hint=HOW_TO_GET,
            )

    def tokens(self, text: str) -> list[str]:
        """With [CLS] and [SEP]."""
        found: list[str] = self._tokenizer.encode(text).tokens
        return found

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids (B, L) int64 and mask (B, L) bool, L the longest text's tokens; longer than max_tokens is cut."""
        ids, mask, _ = self.encode(texts)
        return ids, mask

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, TextCounts]:
        """As ``__call__``, and what was cut and unknown on the way."""
        found = self._tokenizer.encode_batch(list(texts))
        rows = [encoding.ids for encoding in found]
        ids = torch.full((len(rows), max(map(len, rows), default=0)), self.padding, dtype=torch.int64)
        mask = torch.zeros(ids.shape, dtype=torch.bool)
        for row, encoded in enumerate(rows):
            ids[row, : len(encoded)] = torch.tensor(encoded)
            mask[row, : len(encoded)] = True
        return ids, mask, self._counts(found)

    def count(self, texts: Sequence[str]) -> TextCounts:
        return self._counts(self._tokenizer.encode_batch(list(texts)))

    def _counts(self, encodings: Iterable[Any]) -> TextCounts:
        total = TextCounts()
        for encoding in encodings:
            left = sum(part.special_tokens_mask.count(0) for part in encoding.overflowing)
            total += TextCounts(
                texts=1,
                cut=int(left > 0),
                longest=len(encoding.ids) + left,
                tokens=encoding.special_tokens_mask.count(0),
                unknown=encoding.ids.count(self.unknown),
            )
        return total


def _read(path: Path) -> tuple[dict[str, int], dict[str, Any], Path]:
    """Tokens with their ids, what the files say of the text's normalisation, and the file that the tokens are from."""
    names = ("vocab.txt", "tokenizer.json")
    files = [path / name for name in names if (path / name).is_file()] if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise CheckpointError(f"ct-clip: no vocab.txt and no tokenizer.json in {path}", hint=HOW_TO_GET)
    options: dict[str, Any] = {}
    found: list[dict[str, int]] = []
    for file in files:
        if file.suffix == ".json":
            tokens, said = _from_json(file)
            options |= said
        else:
            tokens = {token: index for index, token in enumerate(file.read_text(encoding="utf-8").splitlines())}
        found.append(tokens)
    if any(tokens != found[0] for tokens in found):
        sizes = " and ".join(f"{file.name} ({len(tokens)} tokens)" for file, tokens in zip(files, found, strict=True))
        raise CheckpointError(f"ct-clip: {sizes} in {path} are not the same vocabulary", hint="keep the one that is right")
    settings = files[0].with_name("tokenizer_config.json")
    if path.is_dir() and settings.is_file():
        said = read_json(settings)
        ours = (
            ("lowercase", "do_lower_case"),
            ("strip_accents", "strip_accents"),
            ("handle_chinese_chars", "tokenize_chinese_chars"),
        )
        options |= {name: said[theirs] for name, theirs in ours if said.get(theirs) is not None}
    return found[0], options, files[0]


def _from_json(file: Path) -> tuple[dict[str, int], dict[str, Any]]:
    """A tokenizer.json of the tokenizers library: WordPiece with BERT's normaliser."""
    content = read_json(file)
    model = content.get("model") or {}
    # Older files do not name the model's type.
    if model.get("type", "WordPiece") != "WordPiece" or not isinstance(model.get("vocab"), dict):
        raise CheckpointError(f"ct-clip: {file} is no WordPiece tokenizer but {model.get('type', 'unknown')}", hint=HOW_TO_GET)
    added = {token["content"]: token["id"] for token in content.get("added_tokens") or []}
    normaliser = content.get("normalizer") or {}
    names = ("lowercase", "strip_accents", "handle_chinese_chars")
    return {**model["vocab"], **added}, {name: normaliser[name] for name in names if normaliser.get(name) is not None}
