"""Names in the registry, for commands that must start quickly."""

MODEL_NAME = "sparse-deconvolution"
PRODUCTION, PREVIOUS = "production", "previous"
BOOK = f"{MODEL_NAME}-moves"
"""Registered model whose versions record who moved the aliases; see `experiments.lease`."""
BUNDLE_HASH, CODE_HASH = "bundle.sha256", "code.sha256"
"""Tags of a version: the hashes of its bundle, and of the code around it, as registered."""
