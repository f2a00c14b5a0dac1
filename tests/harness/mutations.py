"""Mistakes that a durable node must not make, each of which the harness has to catch."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """A mistake, made by patching the product in the processes that the harness starts."""

    #: What it is.
    sentence: str
    apply: Callable[[], None]
    #: The fault that brings it to light.
    fault: str


MUTATIONS: dict[str, Mutation] = {}
