"""Measurements, always beside a baseline taken in the same run."""
