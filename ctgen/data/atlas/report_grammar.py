"""A radiology report in CT-RATE's four parts from the facts of a case; every word of it is ours, none contradicts the facts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.patient import Patient, Scanner
from ctgen.interfaces import Report

Row = dict[str, Any]
Rows = dict[str, list[Row]]

SEEN = "[is seen|is present|is observed|is noted|was detected|is detected]"
ARE_SEEN = "[are seen|are present|are observed|are noted|were detected]"
NOT_SEEN = "[is seen|was seen|was detected|is observed|is identified|was found]"


def write_report(
    rows: list[Row], *, patient: Patient, scanner: Scanner, ratio: float | None, slice_mm: float, speaker: Speaker
) -> Report:
    """``rows`` as ``facts.listed`` gives them; ``ratio`` is the cardiothoracic ratio."""
    found: Rows = defaultdict(list)
    for row in rows:
        found[row["name"]].append(row)
    say = speaker
    groups: dict[str, Callable[[], list[str]]] = {
        "airways": lambda: _airways(say),
        "heart": lambda: _heart(say, found, ratio),
        "mediastinum": lambda: _mediastinum(say, scanner),
        "lungs": lambda: _lungs(say, found),
        "pleura": lambda: _pleura(say, found),
        "abdomen": lambda: _abdomen(say),
        "bones": lambda: _bones(say),
    }
    order = ["airways", *say.shuffled(["heart", "mediastinum"])]
    chest = say.shuffled(["lungs", "pleura"])
    order = [*chest, *order] if say.chance(0.35) else [*order, *chest]
    order += ["abdomen", "bones"] if say.chance(0.75) else ["bones", "abdomen"]
    sentences = [sentence for name in order for sentence in groups[name]()]
    return Report(
        findings=" ".join(sentences),
        impressions=_impressions(say, found),
        clinical_information=_clinical(say, patient),
        technique=_technique(say, scanner, slice_mm),
    )


def lobe_name(lobe: str, say: Speaker) -> str:
    """ "upper_lobe_left" -> "left upper lobe", or another way to say it."""
    level, _, side = lobe.split("_")
    if level == "middle":
        return say.phrase("right middle lobe", "middle lobe of the right lung", "right lung middle lobe")
    return say.phrase(
        "{side} {level} lobe", "{level} lobe of the {side} lung", "{side} lung {level} lobe", side=side, level=level
    )


def _airways(say: Speaker) -> list[str]:
    out = [
        say.say(
            "[the |]trachea and [both |the |]main bronchi are [open|patent|clear]",
            "[the |]trachea is in the midline[, and both main bronchi are [open|patent]|]",
            "no [obstruction|occlusive pathology|narrowing] " + NOT_SEEN + " in the trachea [or|and] [both |]main bronchi",
            "the lumen of the trachea and of [both |the |]main bronchi is [open|preserved|clear]",
            "central airways are [patent|open|of normal calibre]",
        )
    ]
    if say.chance(0.2):
        out.append(say.say("no [bronchiectasis|bronchial widening or bronchiectasis] " + NOT_SEEN, "bronchiectasis is absent"))
    if say.chance(0.12):
        out.append(say.say("there is no peribronchial thickening", "no peribronchial thickening " + NOT_SEEN))
    return out


def _heart(say: Speaker, found: Rows, ratio: float | None) -> list[str]:
    out = []
    shown = f"{ratio:.2f}" if ratio is not None else ""
    if rows := found.get("cardiomegaly"):
        severity = rows[0]["severity"]
        slots = {
            "much": {"mild": "mildly", "moderate": "moderately", "marked": "markedly"}[severity],
            "grade": severity,
            "ctr": shown,
        }
        out.append(
            say.say(
                "the heart is {much} enlarged[, with a cardiothoracic ratio of {ctr}| (cardiothoracic ratio {ctr})|]",
                "{grade} cardiomegaly " + SEEN + "[; the cardiothoracic ratio is {ctr}|]",
                "heart size is {much} increased[ and the cardiothoracic ratio is {ctr}|]",
                "cardiac dimensions are {much} increased, [consistent|compatible] with cardiomegaly",
                "there is {grade} enlargement of the heart[ (ratio to the chest {ctr})|]",
                **slots,
            )
        )
    else:
        out.append(
            say.say(
                "heart size is [normal|within normal limits|not increased]",
                "the heart is [of normal size|normal in size|not enlarged]",
                "[heart contour and size|contours and size of the heart] are [normal|natural]",
                "cardiac [dimensions|chambers] are [normal|of normal width|not enlarged]",
                "the cardiothoracic ratio is normal" + ("[ ({ctr})|]" if shown else ""),
                "no cardiomegaly " + NOT_SEEN,
                ctr=shown,
            )
        )
    if say.chance(0.7):
        out.append(
            say.say(
                "no pericardial effusion[ or thickening|] " + NOT_SEEN,
                "pericardial [effusion|fluid][-thickening|] was not [detected|observed]",
                "there is no pericardial effusion",
                "the pericardium is [normal|of normal thickness, without effusion]",
            )
        )
    return out


def _mediastinum(say: Speaker, scanner: Scanner) -> list[str]:
    out = []
    if scanner.contrast == 0 and say.chance(0.6):
        out.append(
            say.say(
                "mediastinal [structures|vessels] [could not be|cannot be] evaluated [optimally|fully] [without contrast|in "
                "a non-contrast study]",
                "evaluation of the mediastinum [and hila |]is limited [because no contrast was given|in this unenhanced study]",
            )
        )
    elif scanner.contrast > 0 and say.chance(0.5):
        out.append(
            say.say(
                "[mediastinal |central |]vessels [enhance normally|show normal enhancement|fill evenly with contrast]",
                "the aorta and the central pulmonary arteries are [well enhanced|filled with contrast]",
            )
        )
    if say.chance(0.8):
        out.append(
            say.say(
                "[the |]calibre of the [mediastinal great vessels|thoracic aorta and pulmonary arteries|great vessels] is "
                "[normal|natural|preserved]",
                "the [thoracic |ascending and descending |]aorta is [of normal width|not dilated|normal in calibre]",
                "mediastinal main vascular structures are [normal|of normal width]",
                "no [dilatation|aneurysm] of the thoracic aorta " + NOT_SEEN,
            )
        )
    if say.chance(0.85):
        out.append(
            say.say(
                "no [pathologically enlarged|enlarged|pathological] lymph nodes "
                + ARE_SEEN
                + " in the mediastinum[ or hila| or axillae|]",
                "no lymphadenopathy " + NOT_SEEN + "[ in mediastinal and hilar stations| in the chest|]",
                "[mediastinal, hilar and axillary|mediastinal and hilar|prevascular, paratracheal and subcarinal] lymph "
                "nodes are not enlarged",
                "there are no lymph nodes of pathological size[ or appearance|] in the mediastinum",
            )
        )
    if say.chance(0.55):
        out.append(
            say.say(
                "the thoracic oesophagus is [normal|of normal calibre][, without wall thickening|]",
                "no [wall thickening|thickening] of the oesophagus " + NOT_SEEN,
                "[no hiatal hernia " + NOT_SEEN + "|there is no hiatal hernia]",
                "thoracic esophageal calibration is normal, and no [significant|tumoral] wall thickening was detected",
            )
        )
    if say.chance(0.1):
        out.append(
            say.say("no catheter, pacemaker or other medical material " + NOT_SEEN, "there is no medical material in the chest")
        )
    return out


def _lungs(say: Speaker, found: Rows) -> list[str]:
    sick = [name for name in ("emphysema", "consolidation", "lung_nodule", "atelectasis") if found.get(name)]
    if not sick:
        return _clear_lungs(say, found)
    out = []
    if say.chance(0.4):
        out.append(
            say.say(
                "[when examined in the lung window|in the lung window|on lung window images], both lungs were evaluated",
                "when both lungs are [evaluated|examined] in the lung window, the following is noted",
                "both lungs were examined in the lung window",
            )
        )
    writers: dict[str, Callable[[Speaker, list[Row]], list[str]]] = {
        "emphysema": _emphysema,
        "consolidation": _consolidation,
        "lung_nodule": _nodules,
        "atelectasis": _atelectasis,
    }
    for name in say.shuffled(sick):
        out += writers[name](say, found[name])
    absent = [name for name in ("emphysema", "consolidation", "lung_nodule") if not found.get(name)]
    for name in say.shuffled(absent):
        if say.chance(0.55):
            out.append(_without(say, name))
    if say.chance(0.12):
        out.append(say.say("no interlobular septal thickening " + NOT_SEEN, "interlobular septa are not thickened"))
    if say.chance(0.08):
        out.append(say.say("no mosaic attenuation pattern " + NOT_SEEN))
    return out


def _clear_lungs(say: Speaker, found: Rows) -> list[str]:
    out = [
        say.say(
            "[both lungs are|the lungs are|both lung fields are] [clear|normally aerated|of normal aeration]",
            "[aeration of both lungs is|ventilation of both lungs is|both lung parenchyma aeration is] [normal|natural]",
            "when examined in the lung window, [both lungs are clear|no lesion " + NOT_SEEN + " in either lung]",
            "no [mass, nodule or infiltration|nodular or infiltrative lesion|active infiltration or mass] "
            + NOT_SEEN
            + " in either lung",
            "the parenchyma of both lungs is [normal|unremarkable]",
        )
    ]
    for name in say.shuffled(["emphysema", "consolidation", "lung_nodule"]):
        if say.chance(0.4):
            out.append(_without(say, name))
    if not found.get("pleural_effusion") and say.chance(0.25):
        out.append(say.say("no atelectasis " + NOT_SEEN, "there is no [atelectasis|collapse]"))
    return out


def _without(say: Speaker, name: str) -> str:
    templates = {
        "emphysema": (
            "no emphysema[tous change|] " + NOT_SEEN,
            "there is no emphysema[ in either lung|]",
            "emphysematous changes are absent",
        ),
        "consolidation": (
            "no [area of |]consolidation " + NOT_SEEN + "[ in either lung|]",
            "there is no [consolidation|pneumonic consolidation|parenchymal consolidation]",
            "no finding of pneumonia or consolidation " + NOT_SEEN,
        ),
        "lung_nodule": (
            "no [lung|pulmonary|parenchymal] nodule [or mass |]" + NOT_SEEN,
            "there is no [suspicious |]nodule[ in either lung|]",
            "no nodular lesion " + NOT_SEEN + " in [either lung|both lungs]",
        ),
    }
    return say.say(*templates[name])


def _emphysema(say: Speaker, rows: list[Row]) -> list[str]:
    row = rows[0]
    out = [
        say.say(
            "{grade} {pattern} emphysema " + SEEN + " in [both lungs|both upper lobes|the upper lobes of both lungs]",
            "[there are|both lungs show] {grade} emphysematous changes, {pattern} in type, [more marked|most prominent] "
            "in the upper lobes",
            "both lungs show {grade} emphysema[ of {pattern} type|] with upper lobe predominance",
            "{grade} emphysematous [areas|changes] " + ARE_SEEN + " bilaterally, [mainly|predominantly] in the upper lobes",
            "[low attenuation areas|areas of low density] of {grade} {pattern} emphysema " + ARE_SEEN + " in both upper lobes",
            grade=row["severity"],
            pattern=row["pattern"],
        )
    ]
    if row["percent"] >= 1 and say.chance(0.2):
        out.append(
            say.say("emphysematous areas occupy about {percent} percent of the lung volume", percent=round(row["percent"]))
        )
    return out


def _consolidation(say: Speaker, rows: list[Row]) -> list[str]:
    row = rows[0]
    lobe = lobe_name(row["lobe"], say)
    air = (
        "[ with air bronchograms| containing air bronchograms|, in which air bronchograms are visible]"
        if row["bronchogram"]
        else ""
    )
    kinds = {"focal": "a [focal|small] [area of |]consolidation", "segmental": "[a segmental|a moderate] consolidation"}
    kind = kinds.get(row["extent"], "[an extensive|a large|a widespread] consolidation")
    return [
        say.say(
            kind + " " + SEEN + " in the {lobe}[, measuring [approximately |about |]{mm} mm|]" + air,
            "in the {lobe}, " + kind + "[ of {mm} mm|] " + SEEN + air,
            "the {lobe} shows " + kind + "[, up to {mm} mm in size|]" + air,
            "there is " + kind + "[ of about {mm} mm|] in the {lobe}" + air,
            lobe=lobe,
            mm=row["size_mm"],
        )
    ]


def _nodules(say: Speaker, rows: list[Row]) -> list[str]:
    out = []
    if len(rows) > 1 and say.chance(0.4):
        out.append(say.say("[two|2] [lung|pulmonary|solid] nodules " + ARE_SEEN))
    for row in rows:
        out.append(
            say.say(
                "a {mm} mm [solid |]{margin} nodule " + SEEN + " in the {lobe}",
                "in the {lobe}, [there is a {margin} [solid |]nodule of {mm} mm|a {margin} [solid |]nodule "
                "[measuring|of|with a diameter of] {mm} mm " + SEEN + "]",
                "a [solid |]nodule with {margin} margins[, {mm} mm in diameter,| measuring {mm} mm] " + SEEN + " in the {lobe}",
                "the {lobe} [contains|shows] a {mm} mm {margin} [pulmonary |solid |]nodule",
                "a {margin} [pulmonary |lung |]nodule, {mm} mm in [diameter|size], " + SEEN + " in the {lobe}",
                lobe=lobe_name(row["lobe"], say),
                mm=row["size_mm"],
                margin=row["margin"],
            )
        )
    return out


def _atelectasis(say: Speaker, rows: list[Row]) -> list[str]:
    sides = [row["side"] for row in rows]
    where = say.phrase("both lower lobes", "the lower lobes of both lungs") if len(sides) > 1 else f"the {sides[0]} lower lobe"
    near = "both effusions" if len(sides) > 1 else "the effusion"
    return [
        say.say(
            "[passive|compressive] atelectasis " + SEEN + " in {where}[, adjacent to {near}|]",
            "atelectatic changes " + ARE_SEEN + " in {where}[ next to {near}| due to compression|]",
            "the lung adjacent to {near} shows [passive |compressive |]atelectasis in {where}",
            where=where,
            near=near,
        )
    ]


def _pleura(say: Speaker, found: Rows) -> list[str]:
    rows = found.get("pleural_effusion", [])
    out = []
    words = {"small": "[small|mild|minimal]", "moderate": "moderate", "large": "[large|massive]"}
    if not rows:
        return [
            say.say(
                "no pleural effusion[ or thickening| or pneumothorax|] " + NOT_SEEN,
                "pleural [effusion|effusion-thickening|effusion or pneumothorax] was not [detected|observed]",
                "there is no pleural [effusion|fluid][ on either side| in either hemithorax|]",
                "[both pleural spaces are|the pleural spaces are] free of fluid",
                "no fluid " + NOT_SEEN + " in [either|the] pleural space",
            )
        ]
    if len(rows) == 2 and rows[0]["size"] == rows[1]["size"] and say.chance(0.7):
        size = words[rows[0]["size"]]
        out.append(
            say.say(
                "bilateral "
                + size
                + " pleural effusions "
                + ARE_SEEN
                + "[, {right} mm thick on the right and {left} mm on the left|]",
                size
                + " pleural effusion "
                + SEEN
                + " [bilaterally|on both sides|in both hemithoraces][ (right {right} mm, left {left} mm)|]",
                "there are bilateral "
                + size
                + " pleural effusions[ measuring {right} mm on the right and {left} mm on the left|]",
                right=next(row["size_mm"] for row in rows if row["side"] == "right"),
                left=next(row["size_mm"] for row in rows if row["side"] == "left"),
            )
        )
    else:
        for row in rows:
            size = words[row["size"]]
            out.append(
                say.say(
                    "[a |]" + size + " {side} [sided |]pleural effusion " + SEEN + "[, {mm} mm in thickness| "
                    "measuring {mm} mm at its thickest point|]",
                    size + " pleural effusion " + SEEN + " on the {side}[ side|][, reaching a thickness of {mm} mm|]",
                    "there is [a |]" + size + " pleural effusion in the {side} hemithorax[ (up to {mm} mm)|]",
                    "in the {side} pleural space, " + size + " effusion " + SEEN + "[ with a thickness of {mm} mm|]",
                    side=row["side"],
                    mm=row["size_mm"],
                )
            )
        if len(rows) == 1 and say.chance(0.4):
            other = "left" if rows[0]["side"] == "right" else "right"
            out.append(
                say.say(
                    "the {other} pleural space is [clear|free|dry]", "the {other} pleural space is free of fluid", other=other
                )
            )
    if say.chance(0.3):
        out.append(say.say("no pneumothorax " + NOT_SEEN, "there is no pneumothorax"))
    return out


def _abdomen(say: Speaker) -> list[str]:
    if not say.chance(0.8):
        return []
    return [
        say.say(
            "[upper abdominal organs|the upper abdominal organs included in the sections|visible upper abdominal "
            "organs] are [normal|unremarkable]",
            "no [significant |]abnormality "
            + NOT_SEEN
            + " in the [upper abdomen|upper abdominal sections|included part of the abdomen]",
            "in the upper abdominal sections, [liver and spleen are|the included organs are] [normal|unremarkable]",
            "[the |]adrenal glands are [normal|not enlarged]",
        )
    ]


def _bones(say: Speaker) -> list[str]:
    if not say.chance(0.8):
        return []
    return [
        say.say(
            "no lytic or [sclerotic|destructive] lesion " + NOT_SEEN + " in the [bones|bone structures]",
            "[bone structures|bones] in the [study area|field of view] are [normal|intact|unremarkable]",
            "vertebral body heights are preserved[, and no fracture " + NOT_SEEN + "|]",
            "no destructive bone lesion[ or fracture|] " + NOT_SEEN,
        )
    ]


def _impressions(say: Speaker, found: Rows) -> str:
    lines = []
    if rows := found.get("pleural_effusion"):
        side = "bilateral" if len(rows) == 2 else rows[0]["side"]
        also = "[ with [adjacent |passive |compressive |]atelectasis| and atelectasis]" if found.get("atelectasis") else ""
        size = rows[0]["size"] + " " if len({row["size"] for row in rows}) == 1 else ""
        lines.append(say.say(f"{size}{side} pleural effusion{'s' if len(rows) == 2 else ''}" + also))
    if rows := found.get("cardiomegaly"):
        lines.append(
            say.say("{grade} cardiomegaly", "[{grade} enlargement of the heart|cardiomegaly]", grade=rows[0]["severity"])
        )
    if rows := found.get("consolidation"):
        lines.append(
            say.say(
                "consolidation in the {lobe}[, compatible with pneumonia|; clinical correlation is recommended|]",
                "{lobe} consolidation[, probably infectious|]",
                lobe=lobe_name(rows[0]["lobe"], say),
            )
        )
    for row in found.get("lung_nodule", []):
        lines.append(
            say.say(
                "{mm} mm nodule in the {lobe}[; follow-up is recommended|]",
                "[{margin} |]nodule in the {lobe} ({mm} mm)",
                mm=row["size_mm"],
                lobe=lobe_name(row["lobe"], say),
                margin=row["margin"],
            )
        )
    if rows := found.get("emphysema"):
        lines.append(say.say("{grade} emphysema[ in both lungs| with upper lobe predominance|]", grade=rows[0]["severity"]))
    if not lines:
        return say.say(
            "no [acute |significant |]abnormality [in the chest|" + NOT_SEEN + " in the thorax]",
            "[normal chest CT|thoracic CT within normal limits|findings within normal limits]",
        )
    return " ".join(say.shuffled(lines))


def _clinical(say: Speaker, patient: Patient) -> str:
    if say.chance(0.15):
        return ""
    # Complaints are drawn without regard to the findings: they must not give them away.
    return say.say(
        "[cough|cough and fever|shortness of breath|chest pain|dyspnea|fever|back pain|weight loss|fatigue]",
        "[routine |]control[ examination|]",
        "{age} year old {sex}[, [cough|shortness of breath|chest pain|smoker|preoperative evaluation]|]",
        "[suspected pneumonia|suspicion of infection|known malignancy, control|preoperative evaluation|trauma]",
        age=patient.age,
        sex=patient.sex,
    )


def _technique(say: Speaker, scanner: Scanner, slice_mm: float) -> str:
    thick = f"{slice_mm:g}"
    dye = "[after intravenous contrast|with intravenous contrast|after administration of intravenous contrast]"
    dry = "[without contrast|without intravenous contrast|non-contrast]"
    return say.say(
        "[axial |]sections of {thick} mm were obtained {how}",
        "CT of the [thorax|chest] [was performed |]{how}, {thick} mm sections[, {kernel} kernel|]",
        "[multislice |spiral |]CT of the chest {how}",
        thick=thick,
        kernel="soft tissue" if scanner.kernel == "soft" else scanner.kernel,
        how=say.phrase(dye if scanner.contrast > 0 else dry),
    )
