"""Names in the registry, for commands that must start quickly."""

MODEL_NAME = "sparse-deconvolution"
PRODUCTION, PREVIOUS = "production", "previous"
BOOK = f"{MODEL_NAME}-moves"
"""Registered model whose versions record who moved the aliases; see `experiments.lease`."""
BUNDLE_HASH = "bundle.sha256"
"""Tag of a version: the hash of its bundle as it was registered."""
