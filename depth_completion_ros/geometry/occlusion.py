"""Background points that the LiDAR sees past a nearer surface's edge."""

from __future__ import annotations
