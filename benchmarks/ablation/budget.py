"""Train a network for so many seconds of one processor core, however many steps that makes."""

import time
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from training.loop import Learner, Material, Task, learning_rate
from training.settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A network at the end of its budget, and what it took."""

    #: The averaged weights, in evaluation mode. No validation chose among them.
    network: nn.Module
    name: str
    steps: int
    #: Of the processor, by all threads of this process; on an idle core, with one thread, those of the clock.
    seconds: float

    def told(self) -> dict[str, Any]:
        """What a run's file says of it."""
        parameters = sum(tensor.numel() for tensor in self.network.parameters())
        return {"name": self.name, "steps": self.steps, "cpu_seconds": self.seconds, "parameters": parameters}


def train_for(seconds: float, task: Task, material: Material, settings: TrainingSettings) -> Trained:
    """Train until the budget is spent, for one step at least; drawing the examples is part of the budget.

    What the networks before it have taken of a budget may be more than all of it: then `seconds` is not above 0.

    Processor time is counted, not the clock's, so that what else the machine does takes nothing from a variant. The
    learning rate follows the share of the budget that is spent: `settings.steps` and `settings.warm_up` count parts of
    the budget. Raises what `training.loop.Learner` raises.
    """
    learner = Learner(task, material, settings, None)
    started = time.process_time()

    def spent() -> float:
        return min((time.process_time() - started) / seconds, 1.0) if seconds > 0 else 1.0

    def rate(_: int) -> float:
        return learning_rate(round(spent() * settings.steps), settings)

    learner.schedule = LambdaLR(learner.optimizer, rate)
    steps = 0
    while not steps or spent() < 1:
        learner.learn(learner.draw(steps), steps)
        steps += 1
    taken = time.process_time() - started
    return Trained(network=learner.average.module.eval(), name=task.name, steps=steps, seconds=taken)
