"""Experiments run by name, saved with their provenance, and scored in findings."""

from superpose.reproduction.findings import Finding

__all__ = ["Finding"]
