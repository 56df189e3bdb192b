"""Prints docs/methods.md, made from the registry: ``python -m experiments.methods > docs/methods.md``."""

from experiments.methods.method import When
from experiments.methods.registry import METHODS

HEAD = """\
# Methods

Every method of the experiments, by when it decides what is pruned. `--methods NAME` takes it in any
experiment where it can act: those that prune to sparsities, or find their own, where networks are
trained (`referee` takes the former alone); those whose mask is final before training also where none
are (`layer_collapse`, `effective_sparsity`, `what_masks_buy`); those that search in rounds in
`ticket_search`. In your own code the functions of the third column do the same
([library.md](library.md)). Below each table stands what papers and released codes leave open or
disagree about; of SNIP, GraSP and SynFlow [library.md](library.md#choices-in-snip-grasp-and-synflow)
has a page. This page is made from the registry: `python -m experiments.methods > docs/methods.md`."""


def methods_page() -> str:
    """The page, in Markdown."""
    lines = [HEAD]
    for when in When:
        lines += ["", f"## {str(when).capitalize()}", ""]
        lines += [
            "| name | on figures | functions of `pruning` | ablations | source |",
            "|---|---|---|---|---|",
        ]
        for method in METHODS.values():
            if method.when is when:
                functions = ", ".join(f"`{name}`" for name in method.functions)
                ablations = ", ".join(method.ablations)
                cells = (f"`{method.name}`", method.look.label, functions, ablations, method.source)
                lines.append(f"| {' | '.join(cells)} |")
        chosen = [method for method in METHODS.values() if method.when is when and method.choices]
        lines += ["", *(f"- `{method.name}`: {method.choices}" for method in chosen)] if chosen else []
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(methods_page(), end="")
