"""Site model: what is built, with its ratings; loading, checking, reference sites."""
