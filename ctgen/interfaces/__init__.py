"""What crosses the boundary between ctgen and a plugin: small dataclasses and structural Protocols.

Shape legend, used everywhere in ctgen:

=========  =====================================================================
``B``      batch
``C``      channel
``D H W``  voxels of a volume: axial slice (inferior to superior), row (anterior to posterior), column (right to left)
``c``      latent channels
``d h w``  latent cells along D, H, W
``L E``    text tokens, text width
=========  =====================================================================

A volume is in **HU**, canonical orientation LPS, spacing in mm in the order (D, H, W).
Time runs from **t = 1 (noise) to t = 0 (data)**; velocity is noise - data.

Nothing here imports torch: it is read by ``ctgen ls`` and ``ctgen validate``.
"""

from ctgen.interfaces.components import (
    Autoencoder,
    Backbone,
    Classifier,
    Coefficients,
    Denoise,
    PairEncoder,
    PlaceClassifier,
    PlaceEncoder,
    Rollout,
    Schedule,
    SteppingSchedule,
    TextEncoder,
    TokenBackbone,
    TokenGrid,
)
from ctgen.interfaces.evaluation import (
    EvaluationItem,
    FeatureBank,
    FeatureExtractor,
    HasLabels,
    HasLogits,
    HasText,
    Metric,
    Plane,
    StoredFeatures,
    Which,
)
from ctgen.interfaces.systems import CaseRequest, Dataset, Exporter, Generator, NeedsData
from ctgen.interfaces.training import Objective, SupportsCheck, TrainingSource
from ctgen.interfaces.values import (
    BlockExample,
    Case,
    Condition,
    LatentSpec,
    Markers,
    Origin,
    Posterior,
    Predicts,
    Prompt,
    Report,
    RolloutResult,
    Sizes,
    Skipped,
    Split,
    TextFeatures,
    TextSpec,
    WeightsInfo,
)

__all__ = [
    "Autoencoder",
    "Backbone",
    "BlockExample",
    "Case",
    "CaseRequest",
    "Classifier",
    "Coefficients",
    "Condition",
    "Dataset",
    "Denoise",
    "EvaluationItem",
    "Exporter",
    "FeatureBank",
    "FeatureExtractor",
    "Generator",
    "HasLabels",
    "HasLogits",
    "HasText",
    "LatentSpec",
    "Markers",
    "Metric",
    "NeedsData",
    "Objective",
    "Origin",
    "PairEncoder",
    "PlaceClassifier",
    "PlaceEncoder",
    "Plane",
    "Posterior",
    "Predicts",
    "Prompt",
    "Report",
    "Rollout",
    "RolloutResult",
    "Schedule",
    "Sizes",
    "Skipped",
    "Split",
    "SteppingSchedule",
    "StoredFeatures",
    "SupportsCheck",
    "TextEncoder",
    "TextFeatures",
    "TextSpec",
    "TokenBackbone",
    "TokenGrid",
    "TrainingSource",
    "WeightsInfo",
    "Which",
]
