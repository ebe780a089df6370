"""Islands of a growing layer: connected columns of a periodic field of heights."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from gapkit.exceptions import DataError


def island_sizes(heights: np.ndarray, level: int = 1) -> np.ndarray:
    """Numbers of columns of the islands of one layer, largest first; lone atoms are islands of one.

    Columns that reach ``level`` belong to one island where they are nearest neighbours along rows or columns, across
    the periodic boundary too.

    Parameters
    ----------
    heights : (L, L) int
        Field of heights in layers.
    level : int
        Layer that is looked at.

    Raises
    ------
    DataError
        Where the field is not a matrix.

    Examples
    --------
    >>> field = np.zeros((6, 6), dtype=int)
    >>> field[2, 2:5] = field[0, 0] = field[5, 0] = 1
    >>> island_sizes(field).tolist()
    [3, 2]
    """
    heights = np.asarray(heights)
    if heights.ndim != 2:
        raise DataError(f"heights must be a matrix, the last of a run's heights say, not of shape {heights.shape}")
    full = heights >= level
    index = np.arange(full.size).reshape(full.shape)
    pairs = [
        np.stack([index[both], np.roll(index, -1, axis=axis)[both]])
        for axis in (0, 1)
        for both in [full & np.roll(full, -1, axis=axis)]
    ]
    rows, columns = np.concatenate(pairs, axis=1)
    graph = coo_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(full.size, full.size))
    _, of_column = connected_components(graph, directed=False)
    sizes = np.bincount(of_column[index[full]])
    return np.sort(sizes[sizes > 0])[::-1]
