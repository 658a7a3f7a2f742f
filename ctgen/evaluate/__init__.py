"""Scores of reconstructed and generated volumes: streaming metrics, and the driver that runs them over cases."""
