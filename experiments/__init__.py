"""Tracked experiments: runs, their comparison, and the model registry, around MLflow."""
