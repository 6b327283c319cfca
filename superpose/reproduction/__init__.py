"""Experiments run by name, saved with their provenance, and scored by checks."""

from superpose.reproduction.checks import Check, cells

__all__ = ["Check", "cells"]
