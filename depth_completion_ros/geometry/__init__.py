"""Points in, pixels out: pure functions on arrays."""
