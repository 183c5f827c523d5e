"""The two default models: small classifiers of handwritten digits on photographs, and the data they learn from."""
