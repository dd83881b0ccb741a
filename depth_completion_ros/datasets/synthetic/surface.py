"""Turn what rays hit into places on surfaces: where, which way they face, how they look.

Not here: light (`shading.py`). Cameras and LiDAR both go through here, so they see one world.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...data import Float32Array, Float64Array
from .mesh import Material
from .rays import Hits, RayCaster
from .textures import Look, Patch, PatternBook


@dataclass(frozen=True, eq=False)
class Surface:
    """Hold N places that rays hit.

    Attributes:
        points: (N, 3) float64 metres, world.
        normals: (N, 3) float32 for shading, world, towards the viewer.
        flat: (N, 3) float32 normals of the triangles themselves, towards the viewer.
        view: (N, 3) float32 unit directions of the rays, world.
        cosine: (N,) float32 between ray and flat normal, 0..1.
        distance: (N,) float32 metres along the ray.
        material: (N,) uint8.
        look: colour and shine.
    """

    points: Float64Array
    normals: Float32Array
    flat: Float32Array
    view: Float32Array
    cosine: Float32Array
    distance: Float32Array
    material: NDArray[np.uint8]
    look: Look


class SurfaceReader:
    """Look up what rays have hit."""

    def __init__(self, caster: RayCaster, book: PatternBook) -> None:
        """Prepare how texture coordinates run over every face."""
        self._caster, self._book = caster, book
        faces = caster.faces
        corners = faces.corners
        edges = np.stack((corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        turns = np.stack(
            (faces.uv[:, 1] - faces.uv[:, 0], faces.uv[:, 2] - faces.uv[:, 0]), axis=1
        )
        # The gradient g of u lies in the face and has g . edge = change of u along the edge.
        gram = edges @ np.swapaxes(edges, 1, 2)
        solved = np.linalg.solve(gram, turns.astype(np.float64))
        gradients = np.swapaxes(edges, 1, 2) @ solved
        self._gradients = np.ascontiguousarray(np.swapaxes(gradients, 1, 2), np.float32)
        self._steepness = (self._gradients**2).sum(axis=2)
        self._flat = caster.plane_normals.astype(np.float32)

    def read(
        self,
        hits: Hits,
        rows: NDArray[np.intp],
        origins: Float64Array,
        directions: Float64Array,
        times: Float64Array | float,
        pixel_angle: float,
    ) -> Surface:
        """Describe the places that some rays hit.

        Args:
            hits: what was hit.
            rows: (M,) which rays to describe; all of them hit something.
            origins, directions: (N, 3) the rays, world.
            times: (N,) or one, seconds.
            pixel_angle: radians between neighbouring rays, for the footprint.

        Returns:
            M places.
        """
        faces, face = self._caster.faces, hits.face[rows]
        d = directions[rows]
        length = np.sqrt(np.einsum("ij,ij->i", d, d))
        points = origins[rows] if origins.ndim == 2 else origins
        points = points + d * hits.distance[rows, None]
        view = (d / length[:, None]).astype(np.float32)
        distance = (hits.distance[rows] * length).astype(np.float32)
        w = hits.weights[rows]
        w0, w1, w2 = (1 - w[:, 0] - w[:, 1])[:, None], w[:, :1], w[:, 1:]
        uv = faces.uv[face]
        uv = uv[:, 0] * w0 + uv[:, 1] * w1 + uv[:, 2] * w2
        normals = faces.normals[face]
        normals = normals[:, 0] * w0 + normals[:, 1] * w1 + normals[:, 2] * w2
        flat = self._flat[face]
        local_view = view.copy()
        self._turn_movers(hits, rows, times, local_view, normals, flat)
        facing = np.einsum("ij,ij->i", flat, view)
        cosine = np.maximum(np.abs(facing), 0.02)
        # A smooth normal may look away where the triangle itself does not.
        normals *= np.where(facing > 0, -1, 1)[:, None].astype(np.float32)
        flat = flat * np.where(facing > 0, -1, 1)[:, None].astype(np.float32)
        size = np.sqrt(np.einsum("ij,ij->i", normals, normals))
        normals /= np.maximum(size, 1e-6)[:, None]
        gradients = self._gradients[face]
        spread = distance * np.float32(pixel_angle)
        # A pixel's footprint is an ellipse, longer by 1 / cosine along the line of sight.
        along = np.einsum("nij,nj->ni", gradients, local_view) / cosine[:, None]
        reach = spread[:, None] * np.sqrt(self._steepness[face] + along**2)
        material = faces.material[face]
        patch = Patch(
            uv[:, 0], uv[:, 1], reach[:, 0], reach[:, 1], faces.tint[face], faces.style[face]
        )
        look = self._look(material, patch)
        return Surface(points, normals, flat, view, cosine, distance, material, look)

    def _turn_movers(
        self,
        hits: Hits,
        rows: NDArray[np.intp],
        times: Float64Array | float,
        local_view: Float32Array,
        normals: Float32Array,
        flat: Float32Array,
    ) -> None:
        """Turn normals of moving things to the world, and their views to their own frame."""
        mover = hits.mover[rows]
        for index in np.unique(mover[mover >= 0]):
            own = np.flatnonzero(mover == index)
            t = times if np.ndim(times) == 0 else np.asarray(times)[rows[own]]
            R = self._caster.mover_poses(int(index), t).R.astype(np.float32)
            local_view[own] = np.einsum("nji,nj->ni", np.broadcast_to(R, (len(own), 3, 3)),
                                        local_view[own])  # fmt: skip
            for array in (normals, flat):
                turned = np.broadcast_to(R, (len(own), 3, 3)) @ array[own][..., None]
                array[own] = turned[..., 0]

    def _look(self, material: NDArray[np.uint8], patch: Patch) -> Look:
        count = len(material)
        albedo = np.empty((count, 3), np.float32)
        gloss, glass, glow = (np.zeros(count, np.float32) for _ in range(3))
        for kind in np.flatnonzero(np.bincount(material, minlength=len(Material))):
            own = np.flatnonzero(material == kind)
            part = Patch(
                patch.u[own], patch.v[own], patch.du[own], patch.dv[own], patch.tint[own],
                patch.style[own],
            )  # fmt: skip
            look = self._book.look(int(kind), part)
            albedo[own], gloss[own] = look.albedo, look.gloss
            glass[own], glow[own] = look.glass, look.glow
        return Look(albedo, gloss, glass, glow)
