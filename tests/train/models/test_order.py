"""The order of layers is that in which a model calls them, not that of their names."""

import flax.linen as nn
import pytest

from train.models import layers_in_order, make_model


class Backwards(nn.Module):
    """Its names say the opposite of what it computes."""

    @nn.compact
    def __call__(self, images, *, train=False):
        del train
        x = nn.Dense(4, name="zebra")(images.reshape(len(images), -1))
        x = nn.relu(nn.Dense(3, name="dense")(x))
        return nn.Dense(2, name="apple")(x)


def test_names_do_not_decide():
    assert layers_in_order(Backwards(), (2, 2, 1)) == [
        "['zebra']['kernel']",
        "['dense']['kernel']",
        "['apple']['kernel']",
    ]


@pytest.mark.parametrize(
    ("model", "first", "last"),
    [
        ("resnet-20", "conv1", "dense"),
        ("lenet-300-100", "dense1", "dense3"),
        ("vgg-11", "conv1", "dense"),
        ("wide-resnet-16-1", "conv1", "dense"),
    ],
)
def test_the_first_layer_sees_the_image_and_the_last_gives_logits(model, first, last):
    ordered = layers_in_order(make_model(model, num_classes=7), (32, 32, 3))
    assert (ordered[0], ordered[-1]) == (f"['{first}']['kernel']", f"['{last}']['kernel']")
    assert len(set(ordered)) == len(ordered)
