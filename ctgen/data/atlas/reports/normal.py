"""What reports say of organs that are normal, where there is room for it. No sentence speaks of one of the 18 findings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.length import Remark
from ctgen.data.atlas.reports.words import NOT_SEEN, About


@dataclass(frozen=True)
class Normal:
    templates: tuple[str, ...]
    spoilt_by: tuple[str, ...] = ()
    """Findings beside which the sentence would not be true, or would sound as if they were overlooked."""


_SMALL_AIRWAYS = ("bronchiectasis", "peribronchial_thickening", "consolidation", "lung_opacity")
_VOLUME = ("atelectasis", "pleural_effusion", "emphysema", "pulmonary_fibrotic_sequela", "mosaic_attenuation_pattern")

NORMAL: dict[str, tuple[Normal, ...]] = {
    "airways": (
        Normal(
            (
                "no [mass|lesion] " + NOT_SEEN + " in the lumen of the [trachea|main bronchi|central airways]",
                "there is no lesion in the [trachea or main bronchi|central airways]",
            )
        ),
        Normal(("no [mucus|mucus plug|retained secretion] " + NOT_SEEN + " in the [central |]airways",), _SMALL_AIRWAYS),
        Normal(
            ("[lobar and segmental|lobar|segmental] bronchi [of both lungs |]are [open|patent|normal]",),
            (*_SMALL_AIRWAYS, "atelectasis"),
        ),
        Normal(("[the |]carina is [sharp|normal|of normal appearance]",)),
    ),
    "heart": (
        Normal(("no mass " + NOT_SEEN + " in [or around |]the heart", "there is no [cardiac|pericardial] mass")),
        Normal(("[the |]pericardial fat is [clear|normal|of normal density]",), ("pericardial_effusion",)),
    ),
    "mediastinum": (
        Normal(
            (
                "no [mass|space occupying lesion] " + NOT_SEEN + " in the [mediastinum|anterior mediastinum]",
                "there is no mediastinal mass",
            ),
            ("lymphadenopathy",),
        ),
        Normal(
            ("[mediastinal structures are|the mediastinum is] not [shifted|displaced][ to either side|]",),
            ("pleural_effusion", "atelectasis", "hiatal_hernia", "pulmonary_fibrotic_sequela"),
        ),
        Normal(("both hila are [normal|not enlarged|of normal size and shape]",), ("lymphadenopathy",)),
        Normal(
            ("mediastinal fat is [clear|preserved|of normal density]",),
            ("lymphadenopathy", "pericardial_effusion", "hiatal_hernia"),
        ),
        Normal(
            (
                "[the |]thyroid gland is [normal|not enlarged][, as far as it is included|]",
                "no lesion " + NOT_SEEN + " in the included part of the thyroid gland",
            )
        ),
        Normal(("[the |]superior vena cava is [of normal width|not dilated|not widened]",), ("medical_material",)),
        Normal(("no [free |]air " + NOT_SEEN + " in the mediastinum",), ("hiatal_hernia",)),
        Normal(
            (
                "[the |]pulmonary trunk is [of normal width|not dilated|normal in calibre]",
                "[the |]main pulmonary arteries are [not dilated|of normal diameter]",
            )
        ),
    ),
    "lungs": (
        Normal(
            ("no [cavity|cavitary lesion] " + NOT_SEEN + "[ in either lung|]", "there is no cavitary lesion"),
            ("emphysema", "bronchiectasis"),
        ),
        Normal(("no [cyst|bulla|cyst or bulla] " + NOT_SEEN + "[ in both lungs|]",), ("emphysema", "bronchiectasis")),
        Normal(("[volumes of both lungs|lung volumes] are [normal|preserved|not reduced]",), _VOLUME),
        Normal(
            ("[pulmonary vessels|the vessels of both lungs] are [normal|regular|of normal calibre]",),
            ("emphysema", "mosaic_attenuation_pattern", "cardiomegaly"),
        ),
        Normal(
            ("[the |]fissures are [thin|smooth|thin and smooth]",),
            ("pleural_effusion", "interlobular_septal_thickening", "pulmonary_fibrotic_sequela", "atelectasis"),
        ),
        Normal(
            ("[no honeycombing " + NOT_SEEN + "|there is no honeycombing]",),
            ("pulmonary_fibrotic_sequela", "bronchiectasis", "interlobular_septal_thickening", "emphysema"),
        ),
        Normal(("no tree in bud pattern " + NOT_SEEN + "[ in the lungs|]",), _SMALL_AIRWAYS),
    ),
    "pleura": (
        Normal(
            ("no [pleural mass|mass of the pleura] " + NOT_SEEN + "[ on either side|]", "there is no pleural mass"),
            ("pulmonary_fibrotic_sequela",),
        ),
        Normal(("[both |]costophrenic sinuses are [open|clear]",), ("pleural_effusion",)),
        Normal(
            ("[the |]contours of the diaphragm are [smooth|regular]", "both hemidiaphragms are [smooth|normal]"),
            ("pleural_effusion", "hiatal_hernia", "emphysema"),
        ),
    ),
    "abdomen": (
        Normal(("[the |]liver is [of normal size|not enlarged|homogeneous][ in the included sections|]",)),
        Normal(("no [focal |]lesion " + NOT_SEEN + " in the [included|visible] part of the [liver|spleen|liver and spleen]",)),
        Normal(("[the |]spleen is [normal|not enlarged|of normal size]",)),
        Normal(("no [ascites|free fluid] " + NOT_SEEN + " in the [upper abdomen|included part of the abdomen]",)),
    ),
    "bones": (
        Normal(("[the |]ribs are intact[ on both sides|]", "no [rib fracture|fracture of a rib] " + NOT_SEEN)),
        Normal(
            (
                "[soft tissues of the chest wall|chest wall soft tissues] are [normal|unremarkable]",
                "no mass " + NOT_SEEN + " in the [soft tissues of the |]chest wall",
            ),
            ("medical_material",),
        ),
        Normal(("[both axillae|the axillae|both axillary regions] are [clear|normal|unremarkable]",), ("lymphadenopathy",)),
        Normal(("[the |]sternum is [intact|normal]",), ("medical_material",)),
        Normal(("[the |]clavicle and scapula are intact on both sides",)),
    ),
    "impressions": (
        Normal(("[upper|included] abdominal organs are [normal|unremarkable]",)),
        Normal(("no [fracture|destructive bone lesion|fracture or destructive bone lesion] " + NOT_SEEN,)),
        Normal(("[central airways|trachea and main bronchi] are [open|patent]",)),
        Normal(("[great vessels|mediastinal vessels] are of normal [width|calibre]",)),
        Normal(("[no mediastinal mass " + NOT_SEEN + "|there is no mediastinal mass]",), ("lymphadenopathy",)),
        Normal(("[the chest wall is|soft tissues of the chest wall are] unremarkable",), ("medical_material",)),
    ),
}  # fmt: skip


def normals(section: str, usual: float, say: Speaker, about: About) -> list[Remark]:
    """What can be said in a section besides what is found, in a random order."""
    fitting = [normal for normal in NORMAL[section] if not any(about.found.get(name) for name in normal.spoilt_by)]
    return [Remark(partial(say.say, *normal.templates), usual) for normal in say.shuffled(fitting)]
