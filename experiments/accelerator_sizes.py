"""How much ``experiments.accelerator_benchmarks`` measures: all of it, or just enough to see it run."""

from dataclasses import dataclass

from experiments.benchmark_populations import ImageShape

MLP, LENET, RESNET = "lenet-300-100", "lenet-5", "resnet-20"


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured.

    Attributes:
        shapes: Model -> height, width, channels.
        member_steps: Model -> training steps in one call, of all members together.
        populations: Members of LeNet-5 and ResNet-20, in the order of the rows.
        mlp_populations: Members of LeNet-300-100, likewise.
        chunks: Members that are vmapped at a time.
        networks: Of the grid: sparsities, methods, ablations and seeds.
        grid_chunks: How many of them train together.
        images: Of the grid's data, to train and to test on.
        checked: Images, and scores, of the checks.
        side: Of the matrix product that is the ceiling.
        length: Of the copy.
        weights: Of the optimizer's step, and of the selection.
        candidates: Of K-starts.
        search_steps: Of each candidate.
        torch_steps: In one call of PyTorch.
    """

    shapes: dict[str, ImageShape]
    member_steps: dict[str, int]
    populations: tuple[int, ...]
    mlp_populations: tuple[int, ...]
    chunks: tuple[int, ...]
    networks: int
    grid_chunks: tuple[int, ...]
    images: tuple[int, int]
    checked: tuple[int, int]
    side: int
    length: int
    weights: tuple[int, int]
    candidates: tuple[int, ...]
    search_steps: int
    torch_steps: int


FULL = Sizes(
    shapes={MLP: (28, 28, 1), LENET: (28, 28, 1), RESNET: (32, 32, 3)},
    member_steps={MLP: 51_200, LENET: 6_400, RESNET: 640},
    populations=(16, 64, 4, 1),
    mlp_populations=(256, 1024, 64, 16, 4, 1),
    chunks=(4, 16),
    networks=18 * 5 * 4 * 5,
    grid_chunks=(1800, 256),
    images=(60_000, 10_000),
    checked=(128, 1_000_000),
    side=8192,
    length=2**28,
    weights=(15_000_000, 25_600_000),
    candidates=(256, 64, 16, 4, 1),
    search_steps=20,
    torch_steps=200,
)
SMALLEST = Sizes(
    shapes={MLP: (4, 4, 1), LENET: (16, 16, 1), RESNET: (8, 8, 3)},
    member_steps={MLP: 4, LENET: 2, RESNET: 2},
    populations=(2,),
    mlp_populations=(2,),
    chunks=(1,),
    networks=3,
    grid_chunks=(2,),
    images=(200, 100),
    checked=(8, 1000),
    side=64,
    length=1024,
    weights=(5000, 1_000_000),
    candidates=(2,),
    search_steps=2,
    torch_steps=2,
)
