"""Answers that are kept, and computations that identical requests share: never across clients, in memory only."""
