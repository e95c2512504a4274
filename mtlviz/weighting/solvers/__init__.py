"""Exact solvers of the small problems behind the weightings: plain Python loops, compiled by numba."""
