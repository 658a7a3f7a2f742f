"""CTFlow (arXiv 2508.12900) as ctgen plugins."""
