"""Feature extractors: without weights (hu_stats), and networks whose weights are given by path."""
