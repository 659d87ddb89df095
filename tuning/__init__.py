"""Studies: Optuna on a SLURM cluster."""
