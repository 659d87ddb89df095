"""A model behind HTTP: MLflow's scoring server, with limits and clear refusals."""
