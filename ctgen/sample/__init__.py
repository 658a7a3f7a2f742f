"""Sampling: solvers as plain functions, and the generator that a recipe composes."""
