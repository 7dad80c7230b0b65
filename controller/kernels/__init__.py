"""Compiled kernels of the controller: arrays and scalars only."""
