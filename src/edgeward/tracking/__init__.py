"""Tracking: stages post entries into an outbox, one process delivers them to MLflow."""
