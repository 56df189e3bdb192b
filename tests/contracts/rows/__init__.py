"""The contract table: how each public name is called, and what its result must satisfy."""

from tests.contracts.rows import (
    allocations,
    connectivity,
    files,
    gates,
    masks,
    records,
    scores,
    search,
    transforms,
)

ROWS = {
    name: row
    for part in (masks, allocations, gates, scores, search, connectivity, transforms, files, records)
    for name, row in part.ROWS.items()
}
