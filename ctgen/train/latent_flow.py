"""Objective `latent-flow`: train a backbone to undo noise in blocks of cached latents."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ctgen.data.labels import LABELS
from ctgen.errors import DataError
from ctgen.interfaces import BlockExample, Coefficients, Condition, Markers, Predicts, TextFeatures, TrainingSource
from ctgen.markers import make_markers
from ctgen.train.balance import case_weights
from ctgen.train.configs import LatentFlowConfig
from ctgen.train.finding_head import FindingHead
from ctgen.train.finding_weights import check_masks, finding_weights

FITTED = 2048
"""Reports that a backbone's ``fit_texts`` is given."""


class LatentFlow:
    """See LatentFlowConfig. The schedule gives times and the noised latent, the rollout the block and its context."""

    trains: ClassVar[Literal["backbone"]] = "backbone"
    reads: ClassVar[Literal["latents"]] = "latents"
    adversary: nn.Module | None = None

    def __init__(self, config: LatentFlowConfig, *, components: Mapping[str, Any], schedule: Any, rollout: Any) -> None:
        self.config = config
        self.model: nn.Module = components["backbone"]
        self.predicts: Predicts = components["backbone"].predicts
        self.autoencoder = _on_cpu(components["autoencoder"])
        self.schedule, self.rollout = schedule, rollout
        self._markers: dict[tuple[int, int], Markers] = {}
        self._case_weights: dict[tuple[str, ...], Tensor] = {}
        if config.finding_head:
            self.extra = FindingHead(self.model, self.autoencoder.latent.stride)

    def prepare(self, source: TrainingSource) -> None:
        """Compute the markers, and how often each case is drawn, once, before worker processes exist."""
        self.markers(*source.latent_shape(0)[2:])
        self._weights(source)
        if self.config.finding_share:
            check_masks(source)
        if self.config.finding_head:
            self.extra.measure(source)
        fit_texts = getattr(self.model, "fit_texts", None)
        if fit_texts is not None:
            # read only as far as the backbone wants to know them
            fit_texts(self._texts(source))

    def markers(self, height: int, width: int) -> Markers:
        """Markers for latents of ``height`` x ``width`` cells."""
        if (height, width) not in self._markers:
            _, rows, columns = self.autoencoder.latent.stride
            self._markers[height, width] = make_markers(self.autoencoder, height * rows, width * columns)
        return self._markers[height, width]

    def batch(self, source: TrainingSource, size: int, generator: torch.Generator) -> Mapping[str, Any]:
        """Blocks of cases drawn with replacement, each from a fresh draw of its posterior.

        target (B, c, d, h, w), context (B, c, d_ctx, h, w) or None, text TextFeatures, position (B, 2), spacing (B, 3) mm. With
        ``finding_share`` also cell_weight and finding (B, d, h, w), see ``finding_weights``; with ``finding_head`` holds
        (B, d, h, w, 18) by token and known (B, 18), see ``FindingHead``.
        """
        rollout = self.rollout
        if hasattr(rollout, "for_batch"):
            rollout, size = rollout.for_batch(size, generator)
        weights = self._weights(source)
        if weights is None:
            cases = torch.randint(len(source.ids), (size,), generator=generator).tolist()
        else:
            cases = torch.multinomial(weights, size, replacement=True, generator=generator).tolist()
        blocks = [self._block(source, case, rollout, generator) for case in cases]
        contexts = [block.context for block in blocks if block.context is not None]
        if 0 < len(contexts) < len(blocks):
            raise DataError("the rollout gave some blocks of a batch a context and others none")
        masked = self.config.finding_share or self.config.finding_head
        found = self._findings(source, cases, blocks) if masked else {}
        return found | {
            "target": _stack("blocks", [block.target for block in blocks]),
            "context": _stack("contexts", contexts) if contexts else None,
            "text": pad_text([self._text(source, case, generator) for case in cases]),
            "position": torch.tensor([(block.start, block.depth) for block in blocks], dtype=torch.float32),
            "spacing": torch.tensor([source.record(case)["spacing_mm"] for case in cases], dtype=torch.float32),
        }

    def _text(self, source: TrainingSource, case: int, generator: torch.Generator) -> TextFeatures:
        share = self.config.impressions_only
        if share and float(torch.rand((), generator=generator)) < share:
            return source.text(case, impressions=True)
        return source.text(case)

    def _texts(self, source: TrainingSource) -> Iterator[TextFeatures]:
        """What a backbone's ``fit_texts`` is given."""
        for index in range(min(len(source.ids), FITTED)):
            yield source.text(index)
            if self.config.impressions_only:
                yield source.text(index, impressions=True)

    def _block(self, source: TrainingSource, case: int, rollout: Any, generator: torch.Generator) -> BlockExample:
        """Only the slices that the rollout asks for are read and drawn, if it can ask (see Rollout)."""
        _, depth, height, width = source.latent_shape(case)
        markers = self.markers(height, width)

        def read(first: int, end: int) -> Tensor:
            latent: Tensor = self.autoencoder.finalise(source.posterior(case, slice(first, end)), generator=generator)
            return latent[0].float()

        found: BlockExample
        if hasattr(rollout, "example_from"):
            found = rollout.example_from(read, depth, markers, generator)
        else:
            found = rollout.example(read(0, depth), markers, generator)
        return found

    def _findings(self, source: TrainingSource, cases: Sequence[int], blocks: Sequence[BlockExample]) -> dict[str, Tensor]:
        """What masks say of the blocks, for each option that is on."""
        config, parts = self.config, []
        for case, block in zip(cases, blocks, strict=True):
            found = source.masks(case)
            if found is None:
                found = torch.zeros(0, *block.target.shape[2:], dtype=torch.int32), torch.zeros(len(LABELS), dtype=torch.bool)
            bits, known = found
            part = {}
            if config.finding_share:
                stride, limits = self.autoencoder.latent.stride, {"share": config.finding_share, "cap": config.finding_cap}
                part["cell_weight"], part["finding"] = finding_weights(
                    bits, block.start, block.target.shape[1:], stride, **limits
                )
            if config.finding_head:
                part["holds"], part["known"] = self.extra.holds(bits, block.start, block.target.shape[1:]), known
            parts.append(part)
        return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}

    def _weights(self, source: TrainingSource) -> Tensor | None:
        """How often each case is drawn; None: all alike. Kept by the source's cases: training and validation have their own."""
        if self.config.balance == "none":
            return None
        ids = tuple(source.ids)
        if ids not in self._case_weights:
            labels = [source.record(index)["labels"] for index in range(len(ids))]
            self._case_weights[ids] = case_weights(labels, cap=self.config.balance_cap)
        return self._case_weights[ids]

    def loss(self, batch: Mapping[str, Any], step: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        """{"loss", "loss_t0" .. "loss_t3" by quarter of t (NaN: none there), "first_block": share of blocks at slice 0}; with
        ``finding_share`` also "loss_findings", of cells with a finding alone; with ``finding_head`` "finding_head", its
        cross-entropy; with either "loss_even", the loss as it is without them."""
        clean = batch["target"]
        size, device = len(clean), clean.device
        time = self.schedule.training_times(size, generator).to(device)
        noise = self._noise(clean, generator)
        noisy, velocity = noised(clean, noise, self.schedule.coefficients(time))
        context, level = self._context(batch["context"], generator)
        condition = Condition(
            text=batch["text"],
            context=context,
            position=batch["position"],
            spacing=batch["spacing"],
            drop=self._dropped(self.config.text_dropout, size, generator, device),
            context_level=level,
        )
        if self.config.finding_head:
            backbone: Any = self.model
            prediction, tokens = backbone.forward_hidden(noisy, time.float(), condition)
        else:
            prediction = self.model(noisy, time.float(), condition)
        wanted = {"velocity": velocity, "noise": noise, "clean": clean}[self.predicts]
        squares = (prediction.float() - wanted).square()
        errors, weighted = squares.flatten(1).mean(1), dict[str, Tensor]()
        if "cell_weight" in batch:
            cells, finding = squares.mean(1), batch["finding"]
            alone = cells.detach().where(finding, math.nan).nanmean()
            weighted = {"loss_findings": alone, "loss_even": errors.detach().mean()}
            errors = (cells * batch["cell_weight"]).flatten(1).mean(1)
        loss = errors.mean()
        if self.config.finding_head:
            places = self.extra(tokens, batch["holds"], batch["known"])
            loss = loss + self.config.finding_head * places
            weighted["finding_head"] = places.detach()
            weighted.setdefault("loss_even", errors.detach().mean())
        quarter = (time.detach() * 4).long().clamp(0, 3)
        first = (batch["position"][:, 0] == 0).float().mean()
        return {
            "loss": loss,
            # a masked mean without indexing: on a GPU nothing waits, and the mean of nothing is NaN
            **{f"loss_t{number}": errors.detach().where(quarter == number, math.nan).nanmean() for number in range(4)},
            "first_block": first,
            **weighted,
        }

    def adversary_loss(self, batch: Mapping[str, Any], step: int) -> Mapping[str, Tensor]:
        raise DataError("the objective latent-flow has no adversary")

    def _noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(like.shape, generator=generator)
        if self.config.noise_offset:
            noise = noise + self.config.noise_offset * torch.randn((*like.shape[:2], 1, 1, 1), generator=generator)
        return noise.to(like.device)

    def _context(self, context: Tensor | None, generator: torch.Generator) -> tuple[Tensor | None, Tensor | None]:
        """The context as the network sees it, and the standard deviation (B,) of the noise in it: -1 where it is dropped."""
        if context is None:
            return None, None
        level = torch.full((len(context),), self.config.context_noise)
        if self.config.context_noise_levels == "uniform":
            level = level * torch.rand(len(context), generator=generator)
        level = level.to(context.device)
        if self.config.context_noise:
            noise = torch.randn(context.shape, generator=generator).to(context.device)
            context = context + level.reshape(-1, 1, 1, 1, 1) * noise
        dropped = self._dropped(self.config.context_dropout, len(context), generator, context.device)
        if dropped is None:
            return context, level
        return context.masked_fill(dropped.reshape(-1, 1, 1, 1, 1), 0.0), level.masked_fill(dropped, -1.0)

    @staticmethod
    def _dropped(share: float, size: int, generator: torch.Generator, device: torch.device) -> Tensor | None:
        return (torch.rand(size, generator=generator) < share).to(device) if share else None


def noised(clean: Tensor, noise: Tensor, at: Coefficients) -> tuple[Tensor, Tensor]:
    """(z_t = alpha x + sigma eps, dz/dt) for (B, c, d, h, w) and coefficients (B,), which are float64 until here."""
    alpha, sigma, d_alpha, d_sigma = (
        value.to(clean.device, torch.float32).reshape(-1, 1, 1, 1, 1) for value in (at.alpha, at.sigma, at.d_alpha, at.d_sigma)
    )
    return alpha * clean + sigma * noise, d_alpha * clean + d_sigma * noise


def _on_cpu(autoencoder: Any) -> Any:
    """Batches are drawn on the CPU, by worker processes that cannot share a GPU: a copy if the weights are elsewhere."""
    if all(tensor.device.type == "cpu" for tensor in (*autoencoder.parameters(), *autoencoder.buffers())):
        return autoencoder
    return copy.deepcopy(autoencoder).cpu()


def pad_text(features: Sequence[TextFeatures]) -> TextFeatures:
    """Features of single cases (batch of 1 each) as one batch, padded with masked zeros to the longest."""
    longest = max(item.tokens.shape[1] for item in features)
    tokens = [nn.functional.pad(item.tokens, (0, 0, 0, longest - item.tokens.shape[1])) for item in features]
    masks = [nn.functional.pad(item.mask, (0, longest - item.mask.shape[1])) for item in features]
    pooled = [item.pooled for item in features if item.pooled is not None]
    return TextFeatures(torch.cat(tokens), torch.cat(masks), torch.cat(pooled) if len(pooled) == len(features) else None)


def _stack(what: str, tensors: Sequence[Tensor]) -> Tensor:
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) > 1:
        raise DataError(
            f"the rollout cut {what} of different shapes (c, d, h, w) for one batch: {sorted(shapes)}",
            hint="use a rollout with a fixed block, or train.batch=1",
        )
    return torch.stack(list(tensors))
