from __future__ import annotations

import json
import re
import warnings
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from ctflow_fixtures import tensors
from ctgen_ctflow import build_vocabulary
from ctgen_ctflow.ct_clip_config import CtClipConfig
from ctgen_ctflow.ct_clip_text import SHIPPED, SHIPPED_VOCABULARY, CtClipText, TruncationWarning
from ctgen_ctflow.wordpiece import WordPiece
from safetensors import safe_open
from safetensors.torch import save_file

from ctgen.data.atlas.config import AtlasThoraxConfig
from ctgen.data.atlas.dataset import AtlasThorax
from ctgen.errors import CheckpointError, ConfigError, MissingFileError
from ctgen.interfaces import Prompt, Report, TextSpec
from ctgen.testing.text_encoder import check_text_encoder

REPORTS = [
    "Trachea, both main bronchi are open. No occlusive pathology was detected in the trachea and both main bronchi.",
    'A 12 mm nodule is observed in the upper lobe of the right lung; "stable" compared with 2019 (p < 0.05).',
    "Cardiomegaly. Bilateral pleural effusion, more marked on the left, measuring 35 mm at its thickest point.",
    "Überraschend: naïve café #1 @home 100% [brackets] {braces} ~tilde^ `tick` | pipe \\ slash / _ = + * & $ !?",
]


def mini(**fields: object) -> CtClipText:
    torch.manual_seed(0)
    return CtClipText(CtClipConfig(**{"layers": 1, "width": 32, "feed_forward": 64, "weights": "random", **fields}))


def prompts(*texts: str) -> list[Prompt]:
    return [Prompt(Report(text)) for text in texts]


@pytest.fixture(scope="module")
def clip_folder(shared_folder: Path) -> Path:
    return shared_folder / "fixtures" / "ct-clip"


@pytest.fixture(scope="module")
def published(clip_folder: Path) -> CtClipText:
    config = CtClipConfig(
        layers=2,
        width=48,
        heads=4,
        feed_forward=96,
        max_tokens=512,
        template="findings",
        vocabulary=str(clip_folder / "tokenizer"),
        weights=str(clip_folder / "CT-CLIP_tiny.pt"),
    )
    return CtClipText(config)


@torch.no_grad()
def test_parity_with_ct_clip(published: CtClipText, clip_folder: Path) -> None:
    io = tensors(clip_folder / "io.safetensors")
    facts = json.loads((clip_folder / "fixture.json").read_text())["text"]
    asked = prompts(*facts["reports_raw"])
    ids, mask = published.tokenise(asked)
    longest = ids.shape[1]
    assert torch.equal(ids, io["input_ids"][:, :longest]) and torch.equal(mask.long(), io["attention_mask"][:, :longest])
    assert not io["attention_mask"][:, longest:].any()
    assert [published.tokeniser.tokens(text) for text in facts["reports_cleaned"]] == facts["tokens"]
    features = published.encode(asked)
    assert (features.tokens[:, 0] - io["text_cls"]).abs().max() < 1e-5
    assert torch.allclose(features.pooled, torch.nn.functional.normalize(io["text_cls"], dim=-1), atol=1e-5)
    weights = torch.load(clip_folder / "CT-CLIP_tiny.pt", weights_only=True)
    latent = torch.nn.functional.normalize(features.tokens[:, 0] @ weights["to_text_latent.weight"].T, dim=-1)
    assert (latent - io["text_latent"]).abs().max() < 1e-5


def test_what_the_published_file_holds_beyond_the_text_tower_is_reported(published: CtClipText) -> None:
    assert "text_transformer.embeddings.position_ids" in published.skipped
    assert {"to_text_latent.weight", "temperature"} <= set(published.skipped)
    assert not any(key.startswith("text_transformer.encoder") for key in published.skipped)
    assert published.weights.label == "FILE"


@torch.no_grad()
def test_our_layout_comes_back_bit_for_bit(published: CtClipText, tmp_path: Path) -> None:
    save_file({key: value.contiguous() for key, value in published.state_dict().items()}, tmp_path / "clip.safetensors")
    again = CtClipText(published.config.model_copy(update={"weights": str(tmp_path / "clip.safetensors")}))
    assert torch.equal(again.encode(prompts(REPORTS[0])).tokens, published.encode(prompts(REPORTS[0])).tokens)
    assert again.skipped == ()


def test_misfits_and_missing_files_are_told(clip_folder: Path, tmp_path: Path) -> None:
    weights = str(clip_folder / "CT-CLIP_tiny.pt")
    with pytest.raises(CheckpointError, match="does not fit this config") as caught:
        mini(weights=weights)
    assert "layers=2 width=48 feed_forward=96 positions=512, and a vocabulary of 221 tokens" in caught.value.hint
    with pytest.raises(MissingFileError, match=r"nowhere\.pt") as lost:
        mini(weights=str(tmp_path / "nowhere.pt"))
    assert "CT-RATE" in lost.value.hint
    with pytest.raises(MissingFileError, match="nowhere"):
        mini(vocabulary=str(tmp_path / "nowhere"))
    (tmp_path / "bad.pt").write_bytes(b"not a pickle")
    with pytest.raises(CheckpointError, match="cannot be read"):
        mini(weights=str(tmp_path / "bad.pt"))
    (tmp_path / "vocab.txt").write_text("the\nof\n")
    with pytest.raises(CheckpointError, match=r"lacks \[PAD\]"):
        mini(vocabulary=str(tmp_path))


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    torch.save({"text_transformer.x": torch.nn.Linear(2, 2)}, tmp_path / "code.pt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        mini(weights=str(tmp_path / "code.pt"))


def test_no_ascii_text_is_unknown_to_the_mini_vocabulary() -> None:
    tokeniser = WordPiece(SHIPPED_VOCABULARY["mini"], 512)
    ids, _ = tokeniser([*REPORTS, " ".join(map(chr, range(32, 127))), "antidisestablishmentarianism x1y2z3"])
    assert not (ids == tokeniser.unknown).any()
    assert tokeniser.tokens("Pleural effusion, 12 mm") == ["[CLS]", "pleural", "effusion", ",", "1", "##2", "mm", "[SEP]"]
    words = set(re.findall(r"[a-z]{2,}", " ".join(REPORTS[:3]).lower()))
    assert not {word for word in words if tokeniser.tokens(word)[1:-1] != [word]} - {"occlusive", "pathology"}
    assert tokeniser.size == len(set(tokeniser.vocabulary)), "no token twice"


def test_the_committed_vocabulary_is_the_built_one() -> None:
    committed = SHIPPED_VOCABULARY["mini"].read_text(encoding="utf-8").splitlines()
    assert committed == build_vocabulary.build(), "run python -m ctgen_ctflow.build_vocabulary"


def test_simulated_reports_are_made_of_whole_words() -> None:
    # those of the mini recipes
    kinds = ("pleural_effusion", "cardiomegaly", "lung_nodule", "consolidation", "emphysema")
    config = AtlasThoraxConfig(
        cases=5, seed=5, size=(12, 16, 16), spacing_mm=(20.0, 20.0, 20.0), kinds=kinds, nodule_kinds=("solid",)
    )
    simulated = AtlasThorax(config)
    texts = [text for index in range(len(simulated)) for text in asdict(simulated[index].report).values()]
    # The vocabulary is older than what reports say of the diaphragm; it is not changed under shipped weights.
    assert set(build_vocabulary.split_words(texts)) <= {"hyperinflated", "hyperinflation", "flattening", "flattened"}


@torch.no_grad()
def test_padding_and_batch_have_no_influence() -> None:
    encoder = mini()
    together = encoder.encode(prompts(*REPORTS))
    for row, text in enumerate(REPORTS):
        alone = encoder.encode(prompts(text))
        count = alone.tokens.shape[1]
        assert together.mask[row].sum() == count
        assert torch.allclose(together.tokens[row, :count], alone.tokens[0], atol=1e-5)
        assert torch.allclose(together.pooled[row], alone.pooled[0], atol=1e-5)
    assert not together.tokens[~together.mask].any()
    assert torch.allclose(together.pooled.norm(dim=-1), torch.ones(len(REPORTS)), atol=1e-4)


def test_long_prompts_are_cut_and_counted_and_empty_ones_pass() -> None:
    encoder = mini(max_tokens=16)
    with pytest.warns(TruncationWarning, match=r"1 of 2 texts were cut to 16 tokens \(the longest has 104\)") as caught:
        assert encoder.encode(prompts("effusion " * 100, "Normal.")).tokens.shape == (2, 16, 32)
        encoder.encode(prompts("effusion " * 50))
    assert len(caught) == 1, "the first is warned of, all are counted"
    assert (encoder.counts.texts, encoder.counts.cut, encoder.counts.longest) == (3, 2, 104)
    assert encoder.token_counts(prompts("effusion " * 200)).cut == 1 and encoder.counts.texts == 3
    assert encoder.encode(prompts("")).mask.sum() == 2
    spec = CtClipConfig(width=64, max_tokens=16).text_spec()
    assert (spec.width, spec.max_tokens, spec.pooled_width) == (64, 16, 64)


@torch.no_grad()
def test_output_is_the_vector_or_the_tokens_or_both() -> None:
    both, vector, tokens = (mini(output=output) for output in ("both", "vector", "tokens"))
    asked = prompts(*REPORTS)
    expected = both.encode(asked)
    found = vector.encode(asked)
    assert torch.equal(found.tokens, expected.tokens[:, :1]) and torch.equal(found.pooled, expected.pooled)
    assert found.mask.shape == (4, 1) and found.mask.all()
    assert vector.text == TextSpec(32, 1, 32)
    found = tokens.encode(asked)
    assert torch.equal(found.tokens, expected.tokens) and found.pooled is None
    assert tokens.text == TextSpec(32, 384, None)
    for encoder in (both, vector, tokens):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)
            check_text_encoder(encoder)


@torch.no_grad()
def test_latents_are_those_of_ct_clip(published: CtClipText, clip_folder: Path) -> None:
    with pytest.raises(ConfigError, match="projection") as caught:
        published.latents(prompts("Normal."))
    assert "text_encoder.latent=512" in caught.value.hint
    projecting = CtClipText(published.config.model_copy(update={"latent": 24}))
    facts = json.loads((clip_folder / "fixture.json").read_text())["text"]
    found = projecting.latents(prompts(*facts["reports_raw"]))
    assert (found - tensors(clip_folder / "io.safetensors")["text_latent"]).abs().max() < 1e-5
    assert "to_text_latent.weight" not in projecting.skipped and "to_text_latent.weight" in published.skipped


def test_the_shipped_weights_have_the_names_that_they_were_trained_with() -> None:
    names = CtClipText(CtClipConfig()).state_dict().keys()
    with safe_open(SHIPPED["mini"], framework="pt") as stored:
        assert names < set(stored.keys()), "the image tower and the projections are there beside them"
    assert all(name.startswith("text_transformer.") for name in names)


def test_it_can_be_trained() -> None:
    encoder = mini()
    encoder.encode(prompts(REPORTS[0])).pooled.square().sum().backward()
    assert encoder.text_transformer.embeddings.word_embeddings.weight.grad is not None


def test_a_table_of_waves_tells_neighbours_wherever_they_stand() -> None:
    """From random weights alone; trained tables are read as they are."""
    sizes = {"layers": 1, "width": 16, "heads": 2, "feed_forward": 16, "max_tokens": 64}
    config = CtClipConfig(weights="random", position_table="waves", **sizes)
    normal, waves = (
        CtClipText(of).text_transformer.embeddings.position_embeddings.weight.detach()
        for of in (config.model_copy(update={"position_table": "normal"}), config)
    )
    assert float(waves.square().mean()) == pytest.approx(float(normal.square().mean()), rel=0.2)
    # how alike two positions are depends on how far apart they are, and on nothing else
    alike = waves @ waves.T
    for apart in (0, 1, 5):
        assert alike.diagonal(apart).std() < 1e-3 * alike[0, 0]
    assert alike[0, 1] > alike[0, 5]
    shipped = [CtClipText(CtClipConfig(position_table=name)).state_dict() for name in ("normal", "waves")]
    assert all(torch.equal(shipped[0][name], shipped[1][name]) for name in shipped[0])
    # another start is another training; beside weights it is nothing
    assert config.identity() != config.model_copy(update={"position_table": "normal"}).identity()
    assert CtClipConfig(position_table="waves").identity() == CtClipConfig().identity()
