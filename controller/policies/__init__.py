"""Policies: each may only narrow a bound, and leaves its reason."""
