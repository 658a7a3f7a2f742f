"""BERT's WordPiece tokeniser over a vocab.txt, in the uncased setting of CXR-BERT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import BertWordPieceTokenizer
from torch import Tensor

from ctgen.errors import CheckpointError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class WordPiece:
    """One token per line of ``vocab.txt``, id = line number from 0. ``path`` is that file or a folder that holds it."""

    def __init__(self, path: Path, max_tokens: int) -> None:
        file = path / "vocab.txt" if path.is_dir() else path
        if not file.is_file():
            raise CheckpointError(
                f"ct-clip: no vocab.txt in {path}", hint="give CXR-BERT's vocab.txt or the folder that holds it"
            )
        lines = file.read_text(encoding="utf-8").splitlines()
        self.vocabulary = {token: index for index, token in enumerate(lines)}
        missing = [token for token in SPECIAL if token not in self.vocabulary]
        if missing:
            raise CheckpointError(f"ct-clip: {file} is no BERT vocabulary: it lacks {', '.join(missing)}")
        self.size = len(lines)
        self.unknown = self.vocabulary["[UNK]"]
        self._tokenizer = BertWordPieceTokenizer(self.vocabulary, lowercase=True)
        self._tokenizer.enable_truncation(max_tokens)
        self._padding = self.vocabulary["[PAD]"]

    def tokens(self, text: str) -> list[str]:
        """With [CLS] and [SEP]."""
        found: list[str] = self._tokenizer.encode(text).tokens
        return found

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids (B, L) int64 and mask (B, L) bool, L the longest text's tokens; longer than max_tokens is cut."""
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        ids = torch.full((len(rows), max(map(len, rows))), self._padding, dtype=torch.int64)
        mask = torch.zeros(ids.shape, dtype=torch.bool)
        for row, found in enumerate(rows):
            ids[row, : len(found)] = torch.tensor(found)
            mask[row, : len(found)] = True
        return ids, mask
