"""The recipes of papers, and ours, by name."""

from dataclasses import replace

from train.recipes import Recipe

_ASSESSED_CIFAR = Recipe(
    epochs=160,
    batch_size=128,
    learning_rate=0.1,
    momentum=0.9,
    weight_decay=1e-4,
    drop_epochs=(80, 120),
    scale_initializer="uniform",
    flip=True,
    crop_padding=4,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
_LOTTERY_LENET = Recipe(
    epochs=50, batch_size=60, optimizer="adam", learning_rate=1.2e-3, initializer="glorot-normal"
)

# Sources: "assessed" is Frankle et al. 2021 (arXiv 2009.08576), as its code trains; "lottery" is
# Frankle & Carbin 2019 (arXiv 1803.03635), in epochs of 60,000 (MNIST) and 50,000 (CIFAR-10)
# examples; "rewinding" is Renda et al. 2020 (arXiv 2003.02389); "continuous" is Savarese et al. 2020
# (arXiv 1912.04427). "fast-cifar" is for ResNet-20 (docs/experiments.md says what it reaches), untuned:
# optimizer, decay and triangle are those of Page 2018 ("How to Train Your ResNet",
# davidcpage/cifar10-fast, dawn.py: ResNet-9, 24 epochs, the peak at the fifth), whose rate of 0.4 at
# batch 512 is divided by 4, as the batch is; without cutout.
# "deit-imagenet" is Touvron et al. 2020 (arXiv 2012.12877, table 9) for Vision Transformers, without
# RandAugment, mixup, CutMix, erasing, repeated augmentation and stochastic depth, which are not here,
# from Glorot's initialization, and with its decay on all params.
# "digits" is ours; how it came about, with test accuracies seen, is in docs/decisions.md.
RECIPES: dict[str, Recipe] = {
    "digits": Recipe(epochs=20, batch_size=64, learning_rate=0.01, momentum=0.9),
    "assessed-lenet": Recipe(epochs=16, batch_size=128, learning_rate=0.1),
    "assessed-cifar": _ASSESSED_CIFAR,
    "assessed-cifar-eval-scores": replace(_ASSESSED_CIFAR, score_in_train_mode=False),
    # Initialized and scored as in the Synaptic-Flow repository.
    "assessed-cifar-unit-scales-eval-scores": replace(
        _ASSESSED_CIFAR, score_in_train_mode=False, scale_initializer="ones"
    ),
    "assessed-cifar-bfloat16": replace(_ASSESSED_CIFAR, compute_dtype="bfloat16"),
    "assessed-tinyimagenet": replace(
        _ASSESSED_CIFAR,
        epochs=200,
        batch_size=256,
        learning_rate=0.2,
        drop_epochs=(100, 150),
        warmup_epochs=5,
    ),
    "assessed-imagenet": replace(
        _ASSESSED_CIFAR,
        epochs=90,
        batch_size=1024,
        learning_rate=0.4,
        drop_epochs=(30, 60, 80),
        warmup_epochs=5,
        score_batch_size=100,
        crop_padding=0,
        image_size=224,
    ),
    "lottery-lenet": _LOTTERY_LENET,
    "lottery-conv-2": replace(_LOTTERY_LENET, epochs=24, learning_rate=2e-4),
    "lottery-conv-4": replace(_LOTTERY_LENET, epochs=30, learning_rate=3e-4),
    "lottery-conv-6": replace(_LOTTERY_LENET, epochs=36, learning_rate=3e-4),
    "rewinding-cifar": replace(
        _ASSESSED_CIFAR,
        epochs=182,
        weight_decay=2e-4,
        drop_epochs=(91, 136),
        scale_initializer="ones",
        mean=None,
        std=None,
    ),
    "continuous-cifar": replace(
        _ASSESSED_CIFAR,
        epochs=85,
        nesterov=True,
        drop_epochs=(56, 71),
        initializer="glorot-normal",
        scale_initializer="ones",
        mean=None,
        std=None,
        validation_examples=5000,
    ),
    "fast-cifar": Recipe(
        epochs=10,
        batch_size=128,
        learning_rate=0.1,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        schedule="one-cycle",
        peak_fraction=0.2,
        flip=True,
        crop_padding=4,
    ),
    "deit-imagenet": Recipe(
        epochs=300,
        batch_size=1024,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=0.05,
        label_smoothing=0.1,
        schedule="cosine",
        warmup_epochs=5,
        initializer="glorot-normal",
        flip=True,
        image_size=224,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ),
}


def default_recipe(dataset: str) -> str:
    """The recipe that fits a data set, for a command line that names none.

    Returns:
        A name in ``RECIPES``: that of digits, CIFAR, TinyImageNet or ImageNet, else LeNet's.
    """
    name = dataset.split(":")[0]
    recipes = {
        "digits": "digits",
        "cifar": "assessed-cifar",
        "tiny_imagenet": "assessed-tinyimagenet",
        "imagenet": "assessed-imagenet",
    }
    fitting = (recipe for begin, recipe in recipes.items() if name.startswith(begin))
    return next(fitting, "assessed-lenet")
