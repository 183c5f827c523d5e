"""Measures the quality of a sample of the explanations that clients got, off their way."""
