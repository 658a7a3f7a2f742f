"""What a simulated case is known to show, in the words of data sets: a flat list of findings, and the 18 labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ctgen.data.labels import LABELS

LABEL_OF = {
    "pleural_effusion": "Pleural effusion",
    "cardiomegaly": "Cardiomegaly",
    "lung_nodule": "Lung nodule",
    "consolidation": "Consolidation",
    "emphysema": "Emphysema",
    "atelectasis": "Atelectasis",
}
_SEVERITY_SIZE = {"mild": "small", "moderate": "moderate", "marked": "large", "severe": "large"}
_EXTENT_SIZE = {"focal": "small", "segmental": "moderate", "extensive": "large"}


def listed(findings: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One JSON-ready mapping per lesion and side: ``name``, ``label``, ``size`` (small, moderate, large), and where they
    apply ``side``, ``lobe``, ``size_mm``, ``severity`` and what is particular to the finding."""
    rows: list[dict[str, Any]] = []

    def add(name: str, **values: Any) -> None:
        rows.append({"name": name, "label": LABEL_OF[name], **values})

    for name, facts in findings.items():
        if name == "pleural_effusion":
            for part in facts["parts"]:
                add(name, side=part["side"], size=part["size"], size_mm=part["size_mm"])
                if facts["collapse"] and part["size"] != "small":
                    add(
                        "atelectasis",
                        side=part["side"],
                        size="moderate" if part["size"] == "large" else "small",
                        kind="passive",
                    )
        elif name == "lung_nodule":
            for nodule in facts["nodules"]:
                size = "small" if nodule["size_mm"] < 10 else "moderate" if nodule["size_mm"] <= 20 else "large"
                add(name, **{key: nodule[key] for key in ("side", "lobe", "size_mm", "margin")}, size=size)
        elif name == "consolidation":
            keep = {key: facts[key] for key in ("side", "lobe", "size_mm", "extent", "bronchogram")}
            add(name, **keep, size=_EXTENT_SIZE[facts["extent"]])
        elif name == "emphysema":
            add(
                name, side="bilateral", lobe="upper_lobes", size=_SEVERITY_SIZE[facts["severity"]], severity=facts["severity"],
                pattern=facts["pattern"], percent=facts["percent"],
            )  # fmt: skip
        else:
            add(name, size=_SEVERITY_SIZE[facts["severity"]], severity=facts["severity"])
    return rows


def labels_of(rows: list[dict[str, Any]]) -> dict[str, int]:
    """All 18 labels, 1 for those that a row shows."""
    shown = {row["label"] for row in rows}
    return {label: int(label in shown) for label in LABELS}
