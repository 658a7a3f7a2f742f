"""What ``simulator_realism.py`` measures in a chest CT, real or simulated, without any label.

Axes are (D, H, W): towards the head, the back, the patient's left.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

NAN = float("nan")


def measures(hu: np.ndarray, spacing_mm: tuple[float, float, float]) -> dict[str, float]:
    """Medians and peaks in HU, slope of the noise's spectrum, HU from slice to slice; NaN for what the scan does not show."""
    hu = np.maximum(hu, -1024)
    body = body_of(hu)
    inside = ndimage.binary_erosion(body, iterations=2)
    smooth = ndimage.gaussian_filter(hu.astype(np.float32), [0.0, 2.5 / spacing_mm[1], 2.5 / spacing_mm[2]])
    lung = ndimage.binary_erosion(inside & (hu < -500) & (hu > -975), np.ones((1, 3, 3)), iterations=2)
    windpipe = hu[inside & (hu < -975)]
    return {
        "air": float(np.median(windpipe)) if len(windpipe) > 50 else NAN,
        "lung": float(np.median(hu[lung])) if lung.sum() > 500 else NAN,
        "fat": peak(hu[inside], -160, -40),
        "muscle": peak(hu[inside & at_the_back(body)], 0, 100),
        "blood": blood(hu, smooth, lung, spacing_mm),
        "liver": liver(hu, smooth, inside, spacing_mm),
        "bone": bone(hu, body, spacing_mm),
        "nps slope": noise_slope(hu),
        "slices": slice_difference(hu, body),
    }


def body_of(hu: np.ndarray) -> np.ndarray:
    """The largest piece denser than fat, filled slice by slice."""
    pieces, _ = ndimage.label(ndimage.binary_opening(hu > -300, iterations=2))
    core = pieces == np.bincount(pieces[pieces > 0]).argmax()
    return np.stack([ndimage.binary_fill_holes(ndimage.binary_closing(plane, iterations=2)) for plane in core])


def at_the_back(body: np.ndarray) -> np.ndarray:
    """The hindmost quarter of each slice's body: the muscles beside the spine, and no organ."""
    last = body.shape[1] - 1 - body.any(2)[:, ::-1].argmax(1)
    first = body.any(2).argmax(1)
    return np.asarray(np.arange(body.shape[1])[None, :, None] > (last - 0.25 * (last - first))[:, None, None])


def depth_mm(mask: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """In plane, to the nearest voxel outside ``mask``; the border of the image is not outside."""
    return np.stack([ndimage.distance_transform_edt(plane, sampling=spacing_mm[1:]) for plane in mask])


def peak(values: np.ndarray, low: float, high: float) -> float:
    """The most frequent HU within a window, of a smoothed histogram."""
    counts, edges = np.histogram(values, np.arange(low, high + 1, 4.0))
    return float(edges[ndimage.gaussian_filter1d(counts.astype(float), 2.0).argmax()] + 2)


def blood(hu: np.ndarray, smooth: np.ndarray, lung: np.ndarray, spacing_mm: tuple[float, float, float]) -> float:
    """Median in the middle of the heart: soft tissue of 25 mm and more across between both lungs, in front of the spine.

    What is so thick there is the heart, the aorta or the pulmonary trunk. NaN if it is smaller than 4 ml.
    """
    core = np.zeros(hu.shape, bool)
    deep = depth_mm((smooth > -20) & (smooth < 650), spacing_mm) > 12
    for level, plane in enumerate(lung):
        rows = np.flatnonzero(plane.sum(1) * spacing_mm[2] > 20)
        if len(rows) * spacing_mm[1] < 60:
            continue
        # The spine begins at about two thirds of the way from the front of the lungs to their back.
        front, back = (int(rows[0] + part * (rows[-1] - rows[0])) for part in (0.12, 0.52))
        before = np.maximum.accumulate(plane, 1) & np.maximum.accumulate(plane[:, ::-1], 1)[:, ::-1]
        core[level, front:back] = (before & deep[level])[front:back]
    return float(np.median(hu[core])) if core.sum() * np.prod(spacing_mm) > 4e3 else NAN


def liver(hu: np.ndarray, smooth: np.ndarray, inside: np.ndarray, spacing_mm: tuple[float, float, float]) -> float:
    """Median in the core of the largest soft-tissue piece of 50 mm and more across that lies right of the body's middle.

    Nothing else of that size is there: the heart reaches 40 mm to the right at most. NaN if the core is smaller than 15 ml.
    """
    soft = (smooth > 0) & (smooth < 220) & inside
    columns = np.flatnonzero(inside.any((0, 1)))
    # Half of the body's width; of a scan of one lung the middle cannot be known.
    middle = int(columns.mean() - 25 / spacing_mm[2])
    core = depth_mm(soft, spacing_mm) > 25
    core[:, :, max(middle, 0) :] = False
    pieces, count = ndimage.label(core)
    if not count:
        return NAN
    core = pieces == np.bincount(pieces[pieces > 0]).argmax()
    return float(np.median(hu[core])) if core.sum() * np.prod(spacing_mm) > 15e3 else NAN


def bone(hu: np.ndarray, body: np.ndarray, spacing_mm: tuple[float, float, float]) -> float:
    """Median of what is brighter than 200 HU at most 60 mm under the skin: ribs, sternum, shoulder, and no contrast."""
    bright = hu[(hu > 200) & (hu < 2000) & (depth_mm(body, spacing_mm) < 60)]
    return float(np.median(bright)) if len(bright) > 200 else NAN


def noise_slope(hu: np.ndarray, side: int = 16) -> float:
    """Slope of log power over log frequency, 0.1 to 0.45 cycles per voxel, in the flattest soft-tissue squares."""
    squares = []
    for plane in hu[:: max(1, hu.shape[0] // 24)].astype(float):
        for y in range(0, plane.shape[0] - side, side // 2):
            for x in range(0, plane.shape[1] - side, side // 2):
                part = plane[y : y + side, x : x + side]
                if part.min() > -200 and part.max() < 260:
                    squares.append(part)
    if len(squares) < 20:
        return NAN
    stack = np.stack(squares)
    grid = np.linspace(-1, 1, side)
    for along in (grid[:, None] + 0 * grid, grid + 0 * grid[:, None], grid[:, None] * grid, grid[:, None] ** 2 + 0 * grid):
        along = along - along.mean()
        stack = stack - stack.mean((1, 2), keepdims=True)
        stack = stack - (stack * along).sum((1, 2), keepdims=True) / (along**2).sum() * along
    flat = stack[np.argsort(stack.std((1, 2)))[: max(20, len(stack) // 8)]]
    window = np.hanning(side)[:, None] * np.hanning(side)
    power = (np.abs(np.fft.fft2(flat * window)) ** 2).mean(0)
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side))
    use = (radius > 0.1) & (radius < 0.45)
    return float(np.polyfit(np.log(radius[use]), np.log(power[use]), 1)[0])


def slice_difference(hu: np.ndarray, body: np.ndarray) -> float:
    """Mean absolute HU between neighbouring slices, in the body."""
    both = body[1:] & body[:-1]
    return float(np.abs(np.diff(hu.astype(np.float32), axis=0))[both].mean())
