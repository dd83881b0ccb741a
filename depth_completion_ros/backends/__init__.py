"""Runtimes that take arrays through a network and back."""
