"""Associations with peers; knows nothing of pixels, result objects or workflow."""
