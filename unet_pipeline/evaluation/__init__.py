"""Measures of a label map against a reference."""
