"""``atlas-thorax``: chest CT with known findings, reports and labels, simulated from one real scan."""
