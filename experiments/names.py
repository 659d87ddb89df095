"""Names in the registry, for commands that must start quickly."""

MODEL_NAME = "sparse-deconvolution"
PRODUCTION, PREVIOUS = "production", "previous"
BUNDLE_HASH = "bundle.sha256"
"""Tag of a registered version: `deconv.bundle.bundle_hash` of its bundle."""
BOOK = f"{MODEL_NAME}-moves"
"""Registered model whose versions record who moved the aliases; see `experiments.lease`."""
