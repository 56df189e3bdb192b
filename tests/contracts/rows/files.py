"""Rows of files."""

import pruning
from tests.contracts import checks
from tests.contracts.calls import (
    through_a_file,
)
from tests.contracts.containers import every_other
from tests.contracts.rows.row import Row

ROWS = {
    "save_masks": Row(
        through_a_file(lambda path, p: path.stat().st_size),
        lambda size, p: None if size < 2000 else checks.fail(size),
        traced=False,
    ),
    "load_masks": Row(
        through_a_file(lambda path, p: pruning.load_masks(path, like=p)),
        lambda result, p: checks.unchanged(result, every_other(p)),
        traced=False,
    ),
    "load_metadata": Row(
        through_a_file(lambda path, p: pruning.load_metadata(path)),
        checks.equal({"method": "every other", "seed": 3}),
        traced=False,
    ),
}
