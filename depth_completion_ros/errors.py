"""Every error this package raises on purpose.

    DepthCompletionError
    ├── InputError             a file, message or argument that cannot be used
    ├── CalibrationError       intrinsics or extrinsics that cannot be true
    ├── SynchronisationError   stamps that cannot be matched
    ├── ModelFileError         a weights or network file that does not fit
    └── BackendError           a runtime that is missing or refuses the network

A message is one line that says what was found, what was expected and what to do. The core raises,
the node counts and reports, the command line turns the error into an exit status.
"""

from __future__ import annotations


class DepthCompletionError(Exception):
    """Catch every error that this package raises on purpose."""


class InputError(DepthCompletionError):
    """Report a file, message or argument that cannot be used."""


class CalibrationError(DepthCompletionError):
    """Report intrinsics or extrinsics that cannot be true."""


class SynchronisationError(DepthCompletionError):
    """Report stamps that cannot be matched."""


class ModelFileError(DepthCompletionError):
    """Report a weights or network file that does not fit."""


class BackendError(DepthCompletionError):
    """Report a runtime that is missing or refuses the network."""
