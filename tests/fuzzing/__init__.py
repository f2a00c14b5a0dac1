"""Hostile input for a running node: valid associations, changed at random, and what becomes of each."""
