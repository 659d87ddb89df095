"""Commands of studies and of the cluster."""
