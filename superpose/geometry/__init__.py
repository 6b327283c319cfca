"""The geometry of a solution: which orthogonal pieces it falls into, and which known shape each of them is."""

from superpose.geometry.decomposition import IGNORED, Piece, census, pieces

__all__ = ["IGNORED", "Piece", "census", "pieces"]
