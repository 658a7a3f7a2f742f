"""Entry module of the built-in components: declarations only, nothing heavy is imported."""

from __future__ import annotations

from ctgen.bench.shipped import register_shipped
from ctgen.builtin import configs
from ctgen.builtin.diffusers_flow_config import DiffusersFlowConfig
from ctgen.builtin.exporter_configs import ExporterConfig
from ctgen.config import ComponentConfig
from ctgen.data.atlas.config import AtlasThoraxConfig
from ctgen.data.ct_rate.config import CtRateConfig
from ctgen.data.dicom_config import DicomConfig
from ctgen.data.folder_config import FolderConfig
from ctgen.dicom.export_config import DicomExporterConfig
from ctgen.evaluate import feature_configs
from ctgen.evaluate.configs import ContinuityConfig, CostConfig, HuHistogramConfig, ReconstructionConfig
from ctgen.evaluate.extractors import configs as extractor_configs
from ctgen.hookspecs import hookimpl
from ctgen.host import Registrar
from ctgen.train.a_vae_config import AVaeConfig
from ctgen.train.configs import LatentFlowConfig, ReportLabelsConfig
from ctgen.train.contrastive_config import ContrastiveConfig
from ctgen.train.volume_labels_config import VolumeLabelsConfig

PLUGIN_API = 1


@hookimpl
def ctgen_register(registrar: Registrar) -> None:
    register_shipped(registrar)
    registrar.autoencoder(
        "tiny-ae",
        target="ctgen.builtin.autoencoder:TinyAe",
        config=configs.TinyAeConfig,
        summary="cosine transform, no weights",
    )
    registrar.text_encoder(
        "hash-text",
        target="ctgen.builtin.text_encoder:HashText",
        config=configs.HashTextConfig,
        summary="hashed words, no weights",
    )
    registrar.backbone(
        "tiny-conv",
        target="ctgen.builtin.backbone:TinyConv",
        config=configs.TinyConvConfig,
        summary="small 3D conv net",
    )
    registrar.schedule(
        "linear-flow",
        target="ctgen.builtin.schedule:LinearFlow",
        config=configs.LinearFlowConfig,
        summary="plain rectified flow",
    )
    registrar.schedule(
        "diffusers-flow",
        target="ctgen.builtin.diffusers_flow:DiffusersFlow",
        config=DiffusersFlowConfig,
        summary="diffusers' FlowMatchEulerDiscreteScheduler",
    )
    registrar.rollout(
        "whole-volume",
        target="ctgen.builtin.rollout:WholeVolume",
        config=configs.WholeVolumeConfig,
        summary="one block, no seams",
    )
    registrar.dataset(
        "folder", target="ctgen.data.folder:FolderDataset", config=FolderConfig, summary="any folder of scans, with reports.csv"
    )
    registrar.dataset(
        "ct-rate",
        target="ctgen.data.ct_rate.dataset:CtRate",
        config=CtRateConfig,
        summary="a copy of CT-RATE: filters, splits by patient, HU by evidence",
    )
    registrar.dataset(
        "dicom",
        target="ctgen.data.dicom:DicomDataset",
        config=DicomConfig,
        summary="a folder tree of DICOM files: one case per usable CT series",
    )
    registrar.dataset(
        "atlas-thorax",
        target="ctgen.data.atlas.dataset:AtlasThorax",
        config=AtlasThoraxConfig,
        summary="chest CT simulated from a real scan, with known findings and reports",
    )
    exporters = {"nifti": ("NiftiExporter", ".nii.gz"), "mha": ("MhaExporter", ".mha"), "nrrd": ("NrrdExporter", ".nrrd")}
    for name, (target, suffix) in exporters.items():
        registrar.exporter(name, target=f"ctgen.builtin.exporters:{target}", config=ExporterConfig, summary=f"writes {suffix}")
    registrar.exporter(
        "dicom",
        target="ctgen.dicom.exporter:DicomExporter",
        config=DicomExporterConfig,
        summary="writes a CT series into a folder .dicom, labelled synthetic",
    )
    registrar.objective(
        "a-vae",
        target="ctgen.train.a_vae:AVae",
        config=AVaeConfig,
        summary="autoencoder: reconstruction, KL, similarity, adversary",
    )
    registrar.objective(
        "latent-flow",
        target="ctgen.train.latent_flow:LatentFlow",
        config=LatentFlowConfig,
        summary="backbone: undo noise in latent blocks",
    )
    registrar.objective(
        "contrastive",
        target="ctgen.train.contrastive:Contrastive",
        config=ContrastiveConfig,
        summary="text encoder with an image tower: each report nearest to its own volume",
    )
    registrar.objective(
        "report-labels",
        target="ctgen.train.report_labels:ReportLabels",
        config=ReportLabelsConfig,
        summary="text encoder: state a report's labels, sides and sizes",
    )
    registrar.objective(
        "volume-labels",
        target="ctgen.train.volume_labels:VolumeLabels",
        config=VolumeLabelsConfig,
        summary="classifier: which labels a volume has and, from masks, where",
    )
    registrar.metric(
        "reconstruction",
        target="ctgen.evaluate.reconstruction:Reconstruction",
        config=ReconstructionConfig,
        summary="PSNR, SSIM and error of the autoencoder",
    )
    registrar.metric(
        "continuity",
        target="ctgen.evaluate.continuity:Continuity",
        config=ContinuityConfig,
        summary="do the seams between blocks show",
    )
    registrar.metric(
        "hu-histogram",
        target="ctgen.evaluate.hu_histogram:HuHistogram",
        config=HuHistogramConfig,
        summary="HU of generated against real, overall and by tissue",
    )
    registrar.metric("cost", target="ctgen.evaluate.cost:Cost", config=CostConfig, summary="seconds per volume")
    _features(registrar)


def _features(registrar: Registrar) -> None:
    """What compares distributions of features, and what makes the features."""
    metrics: dict[str, tuple[str, type[ComponentConfig], str]] = {
        "frechet": ("frechet_metric:Frechet", feature_configs.FrechetConfig, "Frechet distance of features (FID, 2.5-D, FVD)"),
        "kid": ("kid:Kid", feature_configs.KidConfig, "kernel distance of features, unbiased"),
        "inception-score": ("inception_score:InceptionScore", feature_configs.InceptionScoreConfig, "sure and varied classes"),
        "clip-score": ("clip_score:ClipScore", feature_configs.ClipScoreConfig, "volume against report and against real scan"),
        "label-faithfulness": (
            "label_faithfulness:LabelFaithfulness",
            feature_configs.LabelFaithfulnessConfig,
            "labels asked for against labels found",
        ),
        "text-gap": ("text_gap:TextGap", feature_configs.TextGapConfig, "does the text matter: own report against others"),
        "diversity": ("diversity:Diversity", feature_configs.DiversityConfig, "MS-SSIM of pairs, density, coverage"),
        "memorisation": ("memorisation:Memorisation", feature_configs.MemorisationConfig, "copies of training cases"),
        "hu-realism": ("hu_realism:HuRealism", feature_configs.HuRealismConfig, "tissues and texture, case by case"),
    }
    for name, (target, config, summary) in metrics.items():
        registrar.metric(name, target=f"ctgen.evaluate.{target}", config=config, summary=summary)
    extractors: dict[str, tuple[str, type[ComponentConfig], str]] = {
        "hu-stats": ("hu_stats:HuStats", extractor_configs.HuStatsConfig, "plain numbers of slices or volumes, no weights"),
        "torchscript-inception": (
            "torchscript:Inception",
            extractor_configs.InceptionConfig,
            "Inception-v3 of StyleGAN's authors, TorchScript",
        ),
        "torchscript-i3d": ("torchscript:I3d", extractor_configs.I3dConfig, "I3D of StyleGAN-V's authors, TorchScript"),
        "radimagenet-resnet50": (
            "radimagenet:RadImageNet",
            extractor_configs.RadImageNetConfig,
            "ResNet-50 with RadImageNet's weights, slices",
        ),
        "ct-net": ("ct_net:CtNet", extractor_configs.CtNetConfig, "CT-Net of the VLM3D challenge's evaluator, volumes"),
    }
    for name, (target, config, summary) in extractors.items():
        registrar.feature_extractor(name, target=f"ctgen.evaluate.extractors.{target}", config=config, summary=summary)
