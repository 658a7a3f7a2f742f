"""Radiology reports of simulated cases: a module per finding, a composer, and a parser that reads them back."""
