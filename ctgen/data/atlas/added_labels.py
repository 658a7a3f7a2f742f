"""Labels that the derivation adds to those of the source."""

from __future__ import annotations

BODY, OUTSIDE = 119, 120
"""Body without a structure of its own; couch, clothes and cables outside the body."""
