"""Sparse encode, select and decode, each beside a plain dense twin."""
