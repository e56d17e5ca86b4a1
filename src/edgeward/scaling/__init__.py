"""Latency, memory and traffic of untrained networks against the input size."""
