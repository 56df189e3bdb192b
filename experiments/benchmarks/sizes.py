"""How much is measured: on a CPU, on an accelerator, and just enough to see that every row runs."""

from dataclasses import dataclass, replace

ImageShape = tuple[int, int, int]
"""Height, width, channels."""
MLP, LENET, CONV, RESNET, VGG = "lenet-300-100", "lenet-5", "conv-2", "resnet-20", "vgg-16"
GREY, COLOUR = (28, 28, 1), (32, 32, 3)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured, on one kind of machine.

    Attributes:
        shapes: Model -> its images.
        member_steps: Model -> training steps in one call, of all members of a population together.
        product_side: Rows and columns of the matrix product that is the ceiling.
        copied: Numbers of the copy that is the ceiling.
        most_together: Members, candidates or layers, at most.
        grid_images: To train and to test on.
        selected: Scores among which are selected.
        weights: How many weights an optimizer's step moves.
        batch: Examples of a score that sees data, and of the checks of gradients.
        rounds: How many rounds SynFlow prunes in.
        walked_sparsity: To which PHEW walks.
        search_steps: How many steps a candidate of a search is trained for.
        run_options: Of the experiments whose start is measured.
    """

    shapes: dict[str, ImageShape]
    member_steps: dict[str, int]
    product_side: int
    copied: int
    most_together: int = 10_000
    grid_images: tuple[int, int] = (60_000, 10_000)
    selected: int = 25_600_000
    weights: int = 15_000_000
    batch: int = 100
    rounds: int = 100
    walked_sparsity: float = 0.95
    search_steps: int = 20
    run_options: tuple[str, ...] = ()

    def together(self, count: int) -> int:
        """How many stand for ``count`` here."""
        return min(count, self.most_together)

    def steps(self, model: str, members: int = 1) -> int:
        """Training steps of each member in one call; up to four members take as many."""
        return max(1, min(500, self.member_steps[model] // max(4, members)))


CPU = Sizes(
    shapes={MLP: GREY, LENET: GREY, CONV: COLOUR, RESNET: COLOUR, VGG: COLOUR},
    member_steps={MLP: 800, LENET: 80, CONV: 16, RESNET: 16},  # half a second to four
    product_side=2048,
    copied=2**26,
)
ACCELERATOR = replace(
    CPU,
    member_steps={MLP: 51_200, LENET: 6_400, CONV: 1_280, RESNET: 640},
    product_side=8192,
    copied=2**28,
)
SMALLEST = Sizes(
    shapes={MLP: (4, 4, 1), LENET: (16, 16, 1), CONV: (8, 8, 3), RESNET: (8, 8, 3), VGG: COLOUR},
    member_steps=dict.fromkeys((MLP, LENET, CONV, RESNET), 8),
    product_side=64,
    copied=1024,
    most_together=5,
    grid_images=(200, 100),
    selected=100_000,
    weights=5000,
    batch=4,
    rounds=2,
    walked_sparsity=0.9999,
    search_steps=2,
    run_options=("--seeds", "1", "--sparsities", "0.9", "--epochs", "3"),
)
SIZES = {"cpu": CPU, "accelerator": ACCELERATOR}
