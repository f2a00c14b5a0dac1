"""A small convolutional network that learns to tell drawn pictures from true ones.

Of MONAI's networks DenseNet121 takes 25 times as long a step, and Classifier and Discriminator end in a layer that
knows each place of the picture, for which a few hundred pictures are too few; a DenseNet of few layers would do, but
nothing else here needs MONAI. This one averages over all places. It keeps to batch norm, since instance norm would even
out how strong the grain is, which is the first thing to look at.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

Floats = NDArray[np.float32]
#: Pictures (n, 96, 96), true and drawn ones of the same places, drawn anew at each call.
Examples = Callable[[np.random.Generator], tuple[Floats, Floats]]

#: Side of the pictures that are told apart.
SIDE = 96
#: Training steps of a classifier.
STEPS = 200
_CHANNELS = (24, 48, 64, 96)
_LEARNING_RATE, _WEIGHT_DECAY = 2e-3, 0.05
#: Of batch norm: its averages are to be those of the last steps, for they begin far from the truth and steps are few.
_MOMENTUM = 0.3


def train_classifier(examples: Examples, seed: int, steps: int = STEPS) -> nn.Module:
    """A classifier of pictures (n, 1, 96, 96) in [-1, 1]: its logit (n, 1) is above 0 for what it takes to be drawn.

    Flipped pictures are as good as others: both ways, by chance, a true one like the drawn one of its place.
    """
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = _network()
    optimizer = torch.optim.AdamW(classifier.parameters(), _LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
    classifier.train()
    for _ in range(steps):
        true, drawn = (torch.from_numpy(part)[:, None] for part in examples(rng))
        flip = [axis for axis in (2, 3) if rng.random() < 0.5]
        logits = classifier(torch.cat([true, drawn]).flip(flip))
        is_drawn = torch.cat([torch.zeros(len(true), 1), torch.ones(len(drawn), 1)])
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(logits, is_drawn).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return classifier.eval()


@torch.inference_mode()
def judge(classifier: nn.Module, pictures: Floats) -> float:
    """The mean logit of some pictures (n, 96, 96) that are either all true or all drawn."""
    looks: Tensor = classifier(torch.from_numpy(pictures)[:, None])
    return float(looks.mean())


def _network() -> nn.Module:
    layers: list[nn.Module] = []
    channels = 1
    for width in _CHANNELS:
        for width_in, stride in ((channels, 2), (width, 1)):
            convolution = nn.Conv2d(width_in, width, 3, stride=stride, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(width, momentum=_MOMENTUM), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1))
