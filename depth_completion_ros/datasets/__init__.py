"""Sources of frames on disk, and results written back."""
