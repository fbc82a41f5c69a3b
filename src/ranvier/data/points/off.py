"""Meshes in the Object File Format, and points on their surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import ArgumentError, DataError


@dataclass(frozen=True, eq=False)
class Mesh:
    """Vertices float64 `[V, 3]` and triangles int64 `[F, 3]`."""

    vertices: NDArray[np.float64]
    triangles: NDArray[np.int64]


def read_off(data: bytes, where: str) -> Mesh:
    """The mesh of an `.off` file; polygons become fans of triangles.

    The header may run into the counts ("OFF8 6 12"), as in many files of ModelNet40. Raises `DataError` naming `where`.
    """
    text = data.decode("ascii", errors="replace")
    if not text[:3].upper() == "OFF":
        raise DataError(f"{where}: is not an OFF mesh (it begins with {text[:8]!r})")
    lines = [line.split("#")[0].split() for line in text[3:].splitlines()]
    rows = [row for row in lines if row]
    try:
        vertices_count, faces_count = int(rows[0][0]), int(rows[0][1])
        body = rows[1:]
        if vertices_count < 3 or faces_count < 1 or len(body) < vertices_count + faces_count:
            raise DataError(
                f"{where}: announces {vertices_count} vertices and {faces_count} faces, but has {len(body)} lines; is "
                "it cut off?"
            )
        vertices = np.array([[float(v) for v in row[:3]] for row in body[:vertices_count]])
        triangles: list[tuple[int, int, int]] = []
        for row in body[vertices_count : vertices_count + faces_count]:
            corners = [int(v) for v in row[1 : int(row[0]) + 1]]
            if len(corners) != int(row[0]):
                raise DataError(f"{where}: a face names {row[0]} corners and lists {len(corners)}")
            triangles += [(corners[0], corners[i], corners[i + 1]) for i in range(1, len(corners) - 1)]
    except (ValueError, IndexError) as error:
        raise DataError(f"{where}: is not a whole OFF mesh ({error})") from error
    faces = np.array(triangles, np.int64).reshape(-1, 3)
    if vertices.shape != (vertices_count, 3) or not np.isfinite(vertices).all():
        raise DataError(f"{where}: has vertices that are not three finite numbers")
    if not len(faces) or faces.min() < 0 or faces.max() >= vertices_count:
        raise DataError(f"{where}: has faces with corners outside its {vertices_count} vertices")
    return Mesh(vertices, faces)


def sample_surface(mesh: Mesh, count: int, seed: int) -> NDArray[np.float32]:
    """`count` points `[count, 6]` uniformly on the surface: position, and normal of the triangle.

    Raises `DataError` for a mesh without area.
    """
    if count < 1:
        raise ArgumentError(f"count must be at least 1, got {count!r}")
    corners = mesh.vertices[mesh.triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normal, axis=1)
    total = area.sum()
    if not total > 0:
        raise DataError("the mesh has no area to sample")
    random = np.random.Generator(np.random.Philox(seed))
    chosen = np.searchsorted(np.cumsum(area), random.random(count) * total).clip(max=len(area) - 1)
    a, b = random.random((2, count, 1))
    a, b = np.where(a + b > 1, 1 - a, a), np.where(a + b > 1, 1 - b, b)
    place = corners[chosen, 0] * (1 - a - b) + corners[chosen, 1] * a + corners[chosen, 2] * b
    facing = normal[chosen] / np.maximum(area[chosen, None], 1e-12)
    return np.concatenate([place, facing], 1).astype(np.float32)
