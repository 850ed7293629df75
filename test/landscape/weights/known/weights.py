#!/usr/bin/env python3
"""Known answers from numpy.linalg.svd in float64: top singular subspaces, shares of an update in them, and the plane of a
trajectory's first two principal components. Prints weights.json.

python3 test/landscape/weights/known/weights.py > test/landscape/weights/known/weights.json
"""
import json
import sys

import numpy as np

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 11
rng = np.random.default_rng(seed)


def shares(weight, delta, k):
    u, _, vt = np.linalg.svd(weight, full_matrices=False)
    u, v = u[:, :k], vt[:k].T
    total = np.sum(delta**2)
    return dict(
        squaredNorm=total,
        left=np.sum((u.T @ delta) ** 2) / total,
        right=np.sum((delta @ v) ** 2) / total,
        both=np.sum((u.T @ delta @ v) ** 2) / total,
    )


matrices = []
for rows, columns, k in [(7, 5, 2), (33, 61, 4), (60, 20, 3), (17, 17, 1), (5, 9, 8)]:
    # Three decimals are written; a checkpoint holds their float32.
    weight = np.round(rng.standard_normal((rows, columns)), 3)
    delta = np.round(rng.standard_normal((rows, columns)) + 0.2 * weight, 3)
    w, d = (x.astype(np.float32).astype(np.float64) for x in (weight, delta))
    values = np.linalg.svd(w, compute_uv=False)[: min(k, rows, columns)]
    matrices.append(
        dict(rows=rows, columns=columns, rank=k, weight=weight.ravel().tolist(), delta=delta.ravel().tolist(),
             values=values.tolist(), shares=shares(w, d, min(k, rows, columns)))
    )

points = np.round(np.cumsum(rng.standard_normal((5, 24)), axis=0), 3)
centred = points - points.mean(axis=0)
u, s, vt = np.linalg.svd(centred, full_matrices=False)
plane = []
for c in range(2):
    # Training moves forward along a component.
    along = u[:, c] * s[c]
    plane.append((along * np.sign(along[-1] - along[0])).tolist())
trajectory = dict(points=points.tolist(), coordinates=plane, shares=(s**2 / np.sum(s**2))[:4].tolist())

print(json.dumps(dict(seed=seed, matrices=matrices, trajectory=trajectory)))
