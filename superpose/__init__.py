"""The mathematics of superposition in neural networks; one concept a module, imported by its name."""
