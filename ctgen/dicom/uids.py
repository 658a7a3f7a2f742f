"""UIDs that are new for new content and the same when a run is repeated."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

NAMESPACE = uuid.UUID("6f1c9a52-7f0e-5b0a-9c55-1d9f6b7ad2c3")
"""Of ctgen's UUIDs (RFC 9562, version 5)."""


def uid_of(parts: Sequence[str], root: str | None = None) -> str:
    """A UID from ``parts``: under 2.25 as a UUID made of their hash, or under ``root``. Equal parts give equal UIDs."""
    if root is None:
        return f"2.25.{uuid.uuid5(NAMESPACE, chr(31).join(parts)).int}"
    from pydicom.uid import generate_uid

    return str(generate_uid(prefix=f"{root}.", entropy_srcs=["ctgen", *parts]))
