"""Lenses: what a model's inner states already say about the tokens to come."""
