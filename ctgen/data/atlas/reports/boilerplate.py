"""What reports say besides the findings: airways, vessels, abdomen, bones, technique."""

from __future__ import annotations

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import NOT_SEEN, About


def central_airways(say: Speaker, about: About) -> str:
    return say.say(
        "[the |]trachea and [both |the |]main bronchi are [open|patent|clear]",
        "[the |]trachea is in the midline[, and both main bronchi are [open|patent]|]",
        "no [obstruction|occlusive pathology|narrowing] " + NOT_SEEN + " in the trachea [or|and] [both |]main bronchi",
        "the lumen of the trachea and of [both |the |]main bronchi is [open|preserved|clear]",
        "central airways are [patent|open|of normal calibre]",
    )


def enhancement(say: Speaker, about: About) -> str:
    if about.scanner.contrast == 0:
        return say.say(
            "mediastinal [structures|vessels] [could not be|cannot be] evaluated [optimally|fully] [without contrast|in "
            "a non-contrast study]",
            "evaluation of the mediastinum [and hila |]is limited [because no contrast was given|in this unenhanced study]",
        )
    return say.say(
        "[mediastinal |central |]vessels [enhance normally|show normal enhancement|fill evenly with contrast]",
        "the aorta and the central pulmonary arteries are [well enhanced|filled with contrast]",
    )


def vessels(say: Speaker, about: About) -> str:
    return say.say(
        "[the |]calibre of the [mediastinal great vessels|thoracic aorta and pulmonary arteries|great vessels] is "
        "[normal|natural|preserved]",
        "the [thoracic |ascending and descending |]aorta is [of normal width|not dilated|normal in calibre]",
        "mediastinal main vascular structures are [normal|of normal width]",
        "no [dilatation|aneurysm] of the thoracic aorta " + NOT_SEEN,
    )


def abdomen(say: Speaker, about: About) -> str:
    return say.say(
        "[upper abdominal organs|the upper abdominal organs included in the sections|visible upper abdominal "
        "organs] are [normal|unremarkable]",
        "no [significant |]abnormality "
        + NOT_SEEN
        + " in the [upper abdomen|upper abdominal sections|included part of the abdomen]",
        "in the upper abdominal sections, [liver and spleen are|the included organs are] [normal|unremarkable]",
        "[the |]adrenal glands are [normal|not enlarged]",
    )


def bones(say: Speaker, about: About) -> str:
    return say.say(
        "no lytic or [sclerotic|destructive] lesion " + NOT_SEEN + " in the [bones|bone structures]",
        "[bone structures|bones] in the [study area|field of view] are [normal|intact|unremarkable]",
        "vertebral body heights are preserved[, and no fracture " + NOT_SEEN + "|]",
        "no destructive bone lesion[ or fracture|] " + NOT_SEEN,
    )


def clinical(say: Speaker, about: About) -> str:
    if say.chance(0.15):
        return ""
    # Complaints are drawn without regard to the findings: they must not give them away.
    return say.say(
        "[cough|cough and fever|shortness of breath|chest pain|dyspnea|fever|back pain|weight loss|fatigue]",
        "[routine |]control[ examination|]",
        "{age} year old {sex}[, [cough|shortness of breath|chest pain|smoker|preoperative evaluation]|]",
        "[suspected pneumonia|suspicion of infection|known malignancy, control|preoperative evaluation|trauma]",
        age=about.patient.age,
        sex=about.patient.sex,
    )


def technique(say: Speaker, about: About) -> str:
    thick = f"{about.slice_mm:g}"
    dye = "[after intravenous contrast|with intravenous contrast|after administration of intravenous contrast]"
    dry = "[without contrast|without intravenous contrast|non-contrast]"
    return say.say(
        "[axial |]sections of {thick} mm were obtained {how}",
        "CT of the [thorax|chest] [was performed |]{how}, {thick} mm sections[, {kernel} kernel|]",
        "[multislice |spiral |]CT of the chest {how}",
        thick=thick,
        kernel="soft tissue" if about.scanner.kernel == "soft" else about.scanner.kernel,
        how=say.phrase(dye if about.scanner.contrast > 0 else dry),
    )


def lung_window(say: Speaker) -> str:
    """Opens the section of lungs that have something."""
    return say.say(
        "[when examined in the lung window|in the lung window|on lung window images], both lungs were evaluated",
        "when both lungs are [evaluated|examined] in the lung window, the following is noted",
        "both lungs were examined in the lung window",
    )


def clear_lungs(say: Speaker) -> str:
    """Of lungs that have nothing."""
    return say.say(
        "[both lungs are|the lungs are|both lung fields are] [clear|normally aerated|of normal aeration]",
        "[aeration of both lungs is|ventilation of both lungs is|both lung parenchyma aeration is] [normal|natural]",
        "when examined in the lung window, [both lungs are clear|no lesion " + NOT_SEEN + " in either lung]",
        "no [mass, nodule or infiltration|nodular or infiltrative lesion|active infiltration or mass] "
        + NOT_SEEN
        + " in either lung",
        "the parenchyma of both lungs is [normal|unremarkable]",
    )


def nothing(say: Speaker) -> str:
    """The impression of a case without findings."""
    return say.say(
        "no [acute |significant |]abnormality [in the chest|" + NOT_SEEN + " in the thorax]",
        "[normal chest CT|thoracic CT within normal limits|findings within normal limits]",
    )
