"""Frechet distance of two Gaussians, from moments (many rows) or from the rows themselves (fewer rows than features).

|m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2). The last term is the sum of the square roots of the eigenvalues of the
symmetric matrix A S2 A^T with A^T A = S1, or, from centred rows A and B, the nuclear norm of A B^T. The second form takes no
square root of a rounding error, so that it is exact where there are fewer rows than features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.linalg import lapack

from ctgen.evaluate.moments import Array, Moments

EPSILON = float(np.finfo(np.float64).eps)


def frechet_of_moments(one: Moments, other: Moments, *, ddof: int = 1) -> float:
    """``ddof``: covariances are divided by count - ddof; 0 is StyleGAN-V's convention."""
    if min(one.count, other.count) < 2:
        raise ValueError(f"a covariance needs at least 2 rows, these are {one.count:g} and {other.count:g}")
    apart = one.mean - other.mean
    root = trace_of_root(one.covariance(ddof), other.covariance(ddof))
    return float(apart @ apart) + one.trace(ddof) + other.trace(ddof) - 2 * root


def trace_of_root(one: Array, other: Array) -> float:
    """tr (S1 S2)^(1/2) of two covariances (d, d), singular ones included. Both are left as they are."""
    upper = _cholesky(one)
    if upper is not None:
        # one triangle of A S2 A^T in place: a quarter of the work of two products
        inner, _ = lapack.dsygst(other, upper, itype=2, lower=0)
        return float(np.sqrt(np.clip(_eigenvalues(inner), 0.0, None)).sum())
    factor = _low_rank_factor(one)
    inner = factor @ other @ factor.T
    values = _eigenvalues((inner + inner.T) / 2)
    if len(factor) < len(one):
        # of a product of singular matrices, what is left of the zeros is rounding
        values = values[values > len(one) * EPSILON * max(float(values[-1]), 0.0)] if len(values) else values
    return float(np.sqrt(np.clip(values, 0.0, None)).sum())


def _eigenvalues(upper: Array) -> Array:
    """Of a symmetric matrix whose upper triangle is given and overwritten, in ascending order."""
    values: Array = linalg.eigvalsh(upper, lower=False, overwrite_a=True, check_finite=False, driver="evd")
    return values


def _cholesky(covariance: Array) -> Array | None:
    """Upper A with A^T A = the covariance; None if it is singular."""
    try:
        upper: Array = linalg.cholesky(covariance, lower=False, check_finite=False)
    except linalg.LinAlgError:
        return None
    diagonal = np.diag(upper)
    return upper if diagonal.min() ** 2 > len(covariance) * EPSILON * diagonal.max() ** 2 else None


def _low_rank_factor(covariance: Array) -> Array:
    """A with A^T A = the covariance: its eigenvectors without the null space."""
    values, vectors = linalg.eigh(covariance, check_finite=False)
    kept = values > len(covariance) * EPSILON * max(float(values[-1]), 0.0)
    found: Array = np.sqrt(values[kept])[:, None] * vectors[:, kept].T
    return found


def frechet_of_rows(one: NDArray[np.floating], other: NDArray[np.floating], *, ddof: int = 1) -> float:
    """(N, d) and (M, d): by rows if one set has no more rows than features, else by moments."""
    if min(len(one), len(other)) <= one.shape[1]:
        return Gram(one, other).distance(ddof=ddof)
    moments = Moments(one.shape[1]), Moments(one.shape[1])
    moments[0].add(one)
    moments[1].add(other)
    return frechet_of_moments(*moments, ddof=ddof)


class Gram:
    """Inner products of two sets of rows, from which the distance of any weighting of the rows follows without the features.

    Needs (N + M)^2 numbers: meant for N and M up to about the number of features.
    """

    def __init__(self, one: NDArray[np.floating], other: NDArray[np.floating]) -> None:
        rows = np.concatenate([one, other]).astype(np.float64)
        # a common shift changes no distance, and keeps the large mean out of the differences below
        rows -= rows.mean(axis=0)
        self.split = len(one)
        self.products: Array = rows @ rows.T

    def distance(self, weights: Array | None = None, other_weights: Array | None = None, *, ddof: int = 1) -> float:
        """``weights`` (N,), ``other_weights`` (M,): how often each row counts (default: once)."""
        count = len(self.products)
        w = np.ones(self.split) if weights is None else np.asarray(weights, np.float64)
        v = np.ones(count - self.split) if other_weights is None else np.asarray(other_weights, np.float64)
        if min(w.sum(), v.sum()) < 2:
            raise ValueError(f"a covariance needs at least 2 rows, these are {w.sum():g} and {v.sum():g}")
        used, also = np.flatnonzero(w), self.split + np.flatnonzero(v)
        w, v = w[w > 0], v[v > 0]
        own, cross, theirs = (self.products[np.ix_(a, b)] for a, b in ((used, used), (used, also), (also, also)))
        p, q = w / w.sum(), v / v.sum()
        mean_own, mean_cross, mean_theirs = own @ p, cross @ q, theirs @ q
        squares = p @ mean_own, p @ mean_cross, q @ mean_theirs
        means = squares[0] - 2 * squares[1] + squares[2]
        spread = w @ np.diag(own) - w.sum() * squares[0], v @ np.diag(theirs) - v.sum() * squares[2]
        centred = cross - mean_cross[:, None] - (p @ cross)[None] + squares[1]
        scaled = np.sqrt(w / (w.sum() - ddof))[:, None] * centred * np.sqrt(v / (v.sum() - ddof))[None]
        nuclear = float(linalg.svdvals(scaled, overwrite_a=True, check_finite=False).sum())
        return float(means + spread[0] / (w.sum() - ddof) + spread[1] / (v.sum() - ddof) - 2 * nuclear)
