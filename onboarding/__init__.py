"""`whylight model`: puts a model into a manifest, after it has shown that it works."""
