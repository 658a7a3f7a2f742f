"""The bench: models over one suite of cases, scored by pinned protocols, with floors, intervals and comparisons."""
