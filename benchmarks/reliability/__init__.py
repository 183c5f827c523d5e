"""Shows that the service answers rightly or says why not, whatever happens: `python -m benchmarks.reliability`."""
