"""Pixels in, pixels out: grey-level mapping, aperture, VAE prior, Palette refinement, composite."""
