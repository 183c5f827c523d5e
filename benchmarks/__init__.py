"""Programs that measure and print tables."""
