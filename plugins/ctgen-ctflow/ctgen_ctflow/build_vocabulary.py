"""Builds the mini WordPiece vocabulary: ``python -m ctgen_ctflow.build_vocabulary [REPORTS.csv ...]``.

Special tokens, every printable ASCII character alone and as a continuation, common endings, and words of chest CT reports.
Numbers are spelled digit by digit, so that every size is learned from ten tokens. Given CSV files, it does not write but lists
the words of their texts that the vocabulary splits, most frequent first.
"""

from __future__ import annotations

import csv
import re
import string
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ctgen.atomic import write_text

TARGET = Path(__file__).parent / "weights" / "mini" / "vocab.txt"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ENDINGS = """
s es ed ing er est ly al ar ic ous ion ions tion sion ation itis osis oma omas opathy ectasis megaly graphy
ial ary ive ant ent
"""

WORDS = """
the a an and or of in on at to from by with without within for as is are was were be been being has have had it its
this that these those there their which than then but not no nor none both all any each every other others another
same some only also more most less least much many few several single multiple numerous one two three four five six
seven eight nine ten first second third half can could may might should would will due because since after before
during between among through along across over under above below into onto near adjacent around about up down out off
against per via such very well still again however while when where if so too

findings impression impressions length clinical information technique comparison history indication examination exam
study scan slices images image sections section view series contrast intravenous enhanced unenhanced non
administration given performed obtained protocol ct computed tomography thorax thoracic chest axial coronal sagittal
mm cm hu kernel dose low high resolution supine

normal abnormal unremarkable natural clear open patent intact preserved regular irregular stable unchanged changed
increased decreased increase decrease increasing decreasing new old previous prior recent chronic acute subacute early
late current follow followed mild mildly minimal minimally moderate moderately marked markedly severe severely slight
slightly extensive diffuse diffusely focal patchy scattered widespread local localized confluent massive large larger
largest small smaller smallest tiny big great wide widened widening narrow narrowed thick thickened thickening thin
thinned dense density densities hyperdense hypodense isodense homogeneous heterogeneous uniform smooth spiculated
lobulated round rounded oval linear nodular reticular cystic solid subsolid mixed partial partially complete
completely total subtotal left right bilateral bilaterally unilateral side sided sides laterality midline anterior
posterior lateral medial superior inferior upper middle lower apical basal apex base central peripheral peripherally
subpleural proximal distal ascending descending dependent paraseptal centrilobular centriacinar panlobular panacinar
perihilar paratracheal subcarinal prevascular aortopulmonary dorsal ventral cranial caudal zone zones level levels
part parts portion portions area areas region regions surface wall walls margin margins border borders contour
contours shape form pattern patterns distribution appearance size sizes sized diameter diameters width height volume
volumes thickness measuring measures measured measurement approximately maximum maximal minimum up reaching extending
extends extent involving involves involved containing contains showing shows shown seen observed noted detected
identified found present absent evident visible visualized evaluated assessed considered suggest suggests suggesting
suggestive consistent compatible suspicious suspected possible possibly probable probably likely unlikely favour favor
represent represents representing favors attributed secondary primary associated accompanied accompanying causing
caused related relation compared limits limit limited optimal suboptimal artifact artifacts motion respiration
inspiration expiration breath hold recommended recommend correlation correlate control further evaluation clinically
significant significance insignificant

lung lungs pulmonary parenchyma parenchymal lobe lobes lobar lobule lobular segment segments segmental subsegmental
lingula lingular fissure fissures hilum hilar hila airway airways trachea tracheal main bronchus bronchi bronchial
bronchiole bronchioles carina lumen pleura pleural space cavity cavities cavitary mediastinum mediastinal heart
cardiac chamber chambers atrium atrial ventricle ventricular valve valves mitral aortic septum interventricular
pericardium pericardial myocardium aorta arch vessel vessels vascular vasculature artery arteries arterial coronary
vein veins venous vena cava azygos trunk bifurcation sinus sinuses costophrenic diaphragm diaphragmatic hemidiaphragm
hemithorax thymus thymic thyroid gland glands lobulation esophagus esophageal oesophagus oesophageal stomach gastric
hiatus hiatal hernia sliding abdomen abdominal liver hepatic gallbladder spleen splenic pancreas pancreatic kidney
kidneys renal adrenal bowel colon intestine peritoneal fat fatty soft tissue tissues muscle muscles skin subcutaneous
breast breasts axilla axillary supraclavicular neck shoulder bone bones bony osseous skeletal rib ribs sternum sternal
clavicle scapula vertebra vertebrae vertebral spine spinal corpus body bodies disc discs joint joints scoliosis
kyphosis height heights structures structure organ organs system

effusion effusions fluid collection free loculated empyema hemothorax pneumothorax hydropneumothorax air gas water
blood nodule nodules micronodule micronodules mass masses lesion lesions tumor tumour malignant malignancy benign
metastasis metastases metastatic carcinoma cancer neoplasm lymphoma granuloma granulomas granulomatous hamartoma cyst
cysts bulla bullae bleb blebs opacity opacities opacification ground glass consolidation consolidations infiltrate
infiltrates infiltration infiltrative crazy paving pneumonia pneumonic infection infectious inflammatory inflammation
viral bacterial covid tuberculosis abscess septic atelectasis atelectatic collapse collapsed band bands plate linear
compressive compression fibrosis fibrotic fibroatelectasis sequela sequelae scar scarring scars interstitial
interstitium septal septa interlobular intralobular honeycombing traction emphysema emphysematous hyperinflation
hyperaeration aeration ventilation trapping mosaic attenuation perfusion lucency lucent bronchiectasis bronchiectatic
bronchitis bronchiolitis peribronchial peribronchovascular tree bud mucus plug plugs plugging secretion lymph node
nodes lymphadenopathy lymphadenopathies adenopathy enlarged enlargement pathological pathologically dimension
dimensions calcification calcifications calcified calcific atheroma atheromatous atherosclerosis atherosclerotic
plaque plaques stenosis cardiomegaly cardiothoracic ratio index dilated dilatation dilation ectasia ectatic aneurysm
aneurysmal aneurysms tortuous hypertension embolism embolus thrombus thrombosis dissection hematoma hemorrhage edema
oedema congestion failure overload degenerative degeneration osteophyte osteophytes osteopenia osteoporosis
osteoporotic fracture fractures fractured lytic sclerotic hemangioma steatosis stone stones hydronephrosis
nephrolithiasis cholelithiasis splenomegaly hepatomegaly ascites catheter catheters port pacemaker electrode
electrodes stent stents tube tubes drain prosthesis prosthetic surgical surgery operation operated postoperative
sternotomy clips clip suture sutures material medical device devices implant implants line lines

patient patients man woman male female year years age aged cough fever pain dyspnea shortness smoker smoking trauma
active passive other additional space occupying layer sign signs findings finding changes change process disease
diseases disorder upper-lobe apicoposterior superolateral posterobasal anterobasal laterobasal mediobasal equal
equivalent exceeding exceeds greater than occupies occupying percent percentage quarter third thirds fully entire
whole filled fills filling reaches displaced displacement shift shifted deviated deviation pushed pulled toward
towards away elevated elevation depressed raised lowered blunted blunting obscured obliterated loss lost reduced
reduction narrowing

standard sharp show showed showing point points thick thicker thickest thinner thinnest its
occlusive pathology pathologies lack lacks absence presence

grade grades either ctr window windows calibre caliber severity examined bronchogram bronchograms included
preoperative normally type types predominance predominant predominantly mainly spaces destructive abnormality
abnormalities report reports weight fatigue routine sex suspicion suspected known unknown multislice multidetector
spiral helical field fields aerated prominent prominence cannot optimally calibration tumoral following occupy next
obstruction obstructive enhance enhances enhancement fill evenly axillae stations station hemithoraces dry back
fusiform saccular lateralisation basis basilar bibasilar biapical retained residual resolving resolved regressed
progressed progression regression new-onset haemorrhage aneurysmatic metallic granulation caseous nonspecific specific
infective aetiology etiology thromboembolism filling defect defects millimetric millimeter millimeters centimeter
centimeters
"""


def build() -> list[str]:
    """Tokens in order of their ids."""
    characters = [chr(code) for code in range(33, 127) if chr(code) not in string.ascii_uppercase]
    continuations = [f"##{character}" for character in string.ascii_lowercase + string.digits]
    endings = [f"##{ending}" for ending in ENDINGS.split() if len(ending) > 1]
    words = sorted({word for word in WORDS.split() if word.isalpha() and len(word) > 1})
    return [*SPECIAL, *characters, *continuations, *endings, *words]


def split_words(texts: Iterable[str]) -> Counter[str]:
    """Words of the texts that are not one token; numbers do not count."""
    known = set(build())
    found = Counter(word for text in texts for word in re.findall(r"[a-z]+", text.lower()))
    return Counter({word: count for word, count in found.items() if word not in known})


def main(arguments: list[str]) -> None:
    if not arguments:
        write_text(TARGET, "\n".join(build()) + "\n")
        print(f"{len(build())} tokens in {TARGET}")
        return
    texts: list[str] = []
    for argument in arguments:
        with Path(argument).open(newline="", encoding="utf-8") as handle:
            texts += [value for row in csv.DictReader(handle) for value in row.values() if value]
    for word, count in split_words(texts).most_common():
        print(f"{count:7d} {word}")


if __name__ == "__main__":
    main(sys.argv[1:])
