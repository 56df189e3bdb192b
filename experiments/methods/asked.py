"""Options of experiments that are told which methods to ask for networks at given sparsities."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from experiments.methods.registry import check_methods, to_sparsities
from experiments.options.training import GridOptions

Methods = Annotated[tuple[str, ...], tyro.conf.arg(help=f"who prunes, of {', '.join(to_sparsities())}")]
"""The option ``--methods``."""


@dataclass(frozen=True, kw_only=True)
class MethodsOptions(GridOptions):
    """The options of experiments whose methods are named; each gives ``methods`` a default."""

    methods: Methods

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        super().__post_init__()
        check_methods(self, self.methods, to_sparsities(), "searches in rounds")
