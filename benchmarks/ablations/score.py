"""One variant: train it if its group trains, score it by `ctgen bench` beside its base, and keep what the tables show."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import losses
from variants import BASE, Variant, other_loss

from ctgen.atomic import fingerprint, read_json, sha256_of, write_json, write_text
from ctgen.bench.reading import load_protocol, load_suite
from ctgen.console import Console
from ctgen.errors import CtgenError, Interrupted
from ctgen.host import Host

FORMAT = 1
NUMBERS: Mapping[tuple[str, str], str] = {
    ("frechet", "frechet"): "Frechet, HU statistics",
    ("kid", "kid"): "KID, HU statistics",
    ("frechet-clip", "frechet"): "Frechet, CT-CLIP",
    ("kid-clip", "kid"): "KID, CT-CLIP",
    ("kid-labels", "kid"): "KID, label network",
    ("clip-score", "text_image"): "CLIP score",
    ("label-faithfulness", "auroc"): "label AUROC",
    ("text-gap", "auroc_shuffled"): "text gap: AUROC",
    ("text-gap", "clip_shuffled"): "text gap: CLIP score",
    ("continuity", "boundary_ratio"): "boundary ratio, 1 is perfect",
    ("continuity", "drift_hu_per_block"): "drift, HU per block",
    ("hu-histogram", "wasserstein_hu"): "HU histograms apart, HU",
    ("hu-realism", "spectrum_slope_error"): "error of the spectrum's slope",
    ("hu-realism", "mean_error_hu.lung"): "error of the lung's mean, HU",
    ("hu-realism", "mean_error_hu.water"): "error of soft tissue's mean, HU",
    ("cost", "evaluations_per_volume"): "network evaluations per volume",
    ("cost", "seconds_per_volume"): "seconds per volume",
    **{("losses", key): name for key, (name, _) in losses.LOSSES.items()},
}
"""(metric, key) -> what the tables call it; where several protocols of a suite have it, the protocol's name follows."""
BACKBONES = ("stdit.safetensors", "unet3d.safetensors")
SCORED = ("value", "low", "high", "n", "higher_is_better")


class Runner:
    """Works in ``folder``, which must be the current folder: there `ctgen bench` looks for runs/NAME of a recipe called NAME.

    Everything that takes long is kept by what it is of: a second Runner in the folder goes on where the first one was ended.
    """

    def __init__(
        self, folder: Path, suite: str, cases: int | None, processes: int | None, *, host: Host, console: Console
    ) -> None:
        self.folder, self.suite, self.cases, self.processes = folder, suite, cases, processes
        self.host, self.console = host, console
        read = load_suite(suite, host)
        protocols = [load_protocol(name, host).fingerprint() for name in read.settings.protocols]
        self._setting = [FORMAT, read.identity(), protocols, cases, _shipped_weights()]
        # a training from random weights, of which nothing is sampled, knows neither the suite nor shipped backbones
        self._losses_setting = [FORMAT, losses.BLOCKS, _shipped_weights(backbones=False)]
        # numbers of another suite or of other weights do not share a folder
        self._shared = folder / f"bench-{fingerprint(self._setting)[:8]}"

    def record(self, variant: Variant, base: Variant) -> dict[str, Any] | None:
        """What is known of a variant if it is still that variant, whether it went well or not."""
        path = self._record_file(variant)
        found: dict[str, Any] | None = read_json(path) if path.is_file() else None
        return found if found is not None and found["key"] == self._key(variant, base) else None

    def run(self, variant: Variant, base: Variant) -> dict[str, Any]:
        """The variant's record: the old one if it went well, else a new one, perhaps with an error. Interrupted is raised."""
        known = self.record(variant, base)
        if known is not None and not known["error"]:
            self.console.say(f"{variant.path}: done before")
            return known
        self.console.say(f"{variant.path}: {' '.join(variant.overrides) or 'as the base'}")
        record: dict[str, Any] = {
            "key": self._key(variant, base), "overrides": list(variant.overrides), "error": variant.error, "training": None,
            "weights": {}, "facts": {}, "scores": {}, "floors": {}, "differences": {}, "measured": variant.measured,
        }  # fmt: skip
        if variant.recipe is not None:
            try:
                self._fill(record, variant, base)
            except Interrupted:
                raise
            except CtgenError as error:
                record["error"] = str(error)
            except Exception as error:
                record["error"] = f"{type(error).__name__}: {error}"
        if record["error"]:
            self.console.warn(f"{variant.path} failed: {record['error']}")
        write_json(self._record_file(variant), record)
        gc.collect()
        return record

    def _fill(self, record: dict[str, Any], variant: Variant, base: Variant) -> None:
        recipe = write_text(self.folder / "recipes" / f"{variant.path}.yaml", variant.text)
        if variant.kind == "training":
            record["training"] = self._train(record, variant, base)
        if variant.measured == "bench":
            self._bench(record, variant, base, recipe)
        elif variant.name != BASE and self._went_well(base):
            against = read_json(self._record_file(base))["blocks"]
            record["differences"] = losses.differences_of(record["blocks"], against, (variant.name, BASE))
        backbone = str(record["weights"].get("backbone", ""))
        if not record["error"] and (variant.kind == "training") != backbone.startswith("TRAINED"):
            raise CtgenError(f"scored with {backbone or 'no'} weights of the backbone in a group of kind {variant.kind}")

    def _train(self, record: dict[str, Any], variant: Variant, base: Variant) -> dict[str, Any]:
        from ctgen.bench.run import provenance_here
        from ctgen.stages import run
        from ctgen.train.log import read_metrics

        assert variant.recipe is not None
        # one run folder for all: what is prepared and encoded for one serves the next
        done = run(variant.recipe, run_dir=Path("runs") / variant.recipe.name, until="train", console=self.console)
        folder = done.folders["train"]
        curve = [(line["step"], line["valid_loss"]) for line in read_metrics(folder) if "valid_loss" in line]
        summary = read_json(folder / "summary.json")
        if variant.measured == "losses" and base.recipe is not None:
            record |= losses.measured(variant.recipe, base.recipe, done.folders)
            record["provenance"] = provenance_here()
        return {
            "folder": str(folder),
            "steps": summary["steps"],
            "seed": variant.recipe.train.seed,
            "seconds": summary["seconds"],
            "started_from": summary["started_from"],
            "loss": summary["loss"],
            "valid_loss": curve[-1][1] if curve else None,
            "valid_curve": curve,
            "other_loss": other_loss(variant.recipe, base.recipe) if base.recipe is not None else [],
        }

    def _bench(self, record: dict[str, Any], variant: Variant, base: Variant, recipe: Path) -> None:
        from ctgen.bench.run import BenchOptions, bench

        words = [f"{variant.name}={recipe}"]
        if variant.name != BASE and self._went_well(base):
            # first, so that the floor of its autoencoder is the same one for every variant
            words.insert(0, f"{BASE}={self.folder / 'recipes' / base.path}.yaml")
        options = BenchOptions(cases=self.cases, processes=self.processes, report=False)
        document = bench(words, self.suite, self._shared, options, host=self.host, console=self.console).document
        write_json(self.folder / "variants" / variant.path / "results.json", document)
        model = document["models"][variant.name]
        failed = (one["errors"].get(variant.name, "") for one in document["protocols"].values())
        record["error"] = "\n".join(filter(None, [model["error"], *failed]))
        record["weights"] = {part: _label(info) for part, info in model["facts"].get("weights", {}).items()}
        record["facts"] = {key: model["facts"].get(key) for key in ("recipe_hash", "steps", "solver", "seeds", "device")}
        record["suite"] = {key: document["suite"][key] for key in ("name", "n", "fingerprint")}
        record["suite"]["seed"] = document["suite"]["identity"]["seed"]
        record["provenance"] = document["provenance"]
        record["not_run"] = {name: one["missing"][0] for name, one in document["protocols"].items() if one["missing"]}
        record["scores"] = scores_of(document, variant.name)
        floors = [name for name, one in document["models"].items() if one["floor"]]
        record["floors"] = {name.partition("-")[0]: scores_of(document, name) for name in floors}
        record["differences"] = differences_of(document, variant.name)

    def _went_well(self, variant: Variant) -> bool:
        found = self.record(variant, variant)
        return found is not None and not found["error"]

    def _record_file(self, variant: Variant) -> Path:
        return self.folder / "variants" / variant.path / "record.json"

    def _key(self, variant: Variant, base: Variant) -> str:
        """Hash of all that decides a record; a base that fails and is mended makes its variants new ones."""
        against = self._went_well(base) and self._key(base, base) if variant.name != BASE else None
        setting = self._setting if variant.measured == "bench" else self._losses_setting
        return fingerprint([setting, list(NUMBERS.items()), variant.text, against])


def scores_of(document: Mapping[str, Any], model: str) -> dict[str, dict[str, Any]]:
    """What NUMBERS names -> value and interval of one model."""
    found = {}
    for name, (protocol, metric, key) in _names(document).items():
        values = document["protocols"][protocol]["results"].get(model, {"values": {}})["values"]
        if score := values.get(metric, {}).get(key):
            found[name] = {field: score[field] for field in SCORED}
    return found


def differences_of(document: Mapping[str, Any], model: str) -> dict[str, dict[str, Any]]:
    """What NUMBERS names -> model - base, paired by case. `ctgen bench` has base - model, since the base stands first."""
    found = {}
    for name, (protocol, metric, key) in _names(document).items():
        for entry in document["protocols"][protocol]["comparisons"]:
            if (entry["first"], entry["second"], entry["metric"], entry["key"]) == (BASE, model, metric, key):
                low, high = entry["low"], entry["high"]
                found[name] = {
                    "value": -entry["value"] or 0.0,
                    "low": None if high is None else -high or 0.0,
                    "high": None if low is None else -low or 0.0,
                    **{field: entry[field] for field in ("p", "test", "n", "better")},
                }
    return found


def _names(document: Mapping[str, Any]) -> dict[str, tuple[str, str, str]]:
    """Name -> (protocol, metric, key) of the numbers that the document's protocols have, in the order of NUMBERS."""
    found = {}
    for (metric, key), name in NUMBERS.items():
        having = [
            protocol
            for protocol, one in document["protocols"].items()
            if any(key in result["values"].get(metric, {}) for result in one["results"].values())
        ]
        for protocol in having:
            found[f"{name} ({protocol})" if len(having) > 1 else name] = (protocol, metric, key)
    return found


def all_names(parts: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names in any of ``parts``, in the order of NUMBERS."""
    places = {name: place for place, name in enumerate(NUMBERS.values())}
    found = dict.fromkeys(name for part in parts for name in part)
    return sorted(found, key=lambda name: places[name if name in places else name.rpartition(" (")[0]])


def _label(info: Any) -> str:
    return f"{info['label']} {info['sha256'][:12]}".strip() if isinstance(info, Mapping) else str(info)


def _shipped_weights(*, backbones: bool = True) -> dict[str, str]:
    """A record is of the weights that shipped when it was made."""
    folders = [Path(str(files(package))) / "weights" for package in ("ctgen_ctflow", "ctgen_baseline")]
    found = {path.name: sha256_of(path) for folder in folders for path in sorted(folder.rglob("*.safetensors"))}
    return {name: sha for name, sha in found.items() if backbones or name not in BACKBONES}
