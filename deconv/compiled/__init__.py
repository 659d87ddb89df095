"""Loops that numba compiles for a CPU, where tensor operations would pass over memory again.

Each has a form of tensors beside it, for a GPU, and a test that both agree.
"""
