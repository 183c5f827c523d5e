"""Between messages and the service's own types."""
