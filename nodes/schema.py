"""The base class of all nodes, with checked inputs, and schemas for hosts of different ages."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from comfy_api.latest import io

from .links import check_links, check_present
from .values import check_values

MAX_SEED = 0xFFFFFFFFFFFFFFFF
"""The host's own samplers have the same limit."""
FOLDED = {"optional": True}
"""For inputs that few people change: newer hosts fold them away."""
if "advanced" in inspect.signature(io.Int.Input).parameters:
    FOLDED["advanced"] = True
_KNOWN = {field.name for field in fields(io.Schema)}


class Node(io.ComfyNode):
    """A node whose typed inputs are checked when a workflow is queued, and whose linked inputs before it runs."""

    def __init_subclass__(cls, **values: Any) -> None:
        super().__init_subclass__(**values)
        own = cls.__dict__.get("execute")
        if own is not None and not hasattr(own.__func__, "__wrapped__"):  # the host makes subclasses of nodes
            cls.execute = classmethod(_checked(own.__func__))

    @classmethod
    def validate_inputs(cls, **values: Any) -> bool:
        """Raises errors instead of returning them, since a host repeats an answer for every input of the node."""
        # None stands for a value that comes through a link later.
        cls.check({name: value for name, value in values.items() if value is not None})
        return True

    @classmethod
    def check(cls, values: dict[str, Any]) -> None:
        """ValueError for values that the node cannot work with; ``values`` lacks those that are not known yet."""
        inputs = cls.define_schema().inputs
        check_values(inputs, values)
        check_links(inputs, values)


def _checked(execute: Callable[..., io.NodeOutput]) -> Callable[..., io.NodeOutput]:
    parameters = inspect.signature(execute).parameters.values()
    optional = {parameter.name for parameter in parameters if parameter.default is not parameter.empty}

    @functools.wraps(execute)
    def run(cls: type[Node], **values: Any) -> io.NodeOutput:
        cls.check(values)
        # Nothing behind an optional link is what an unconnected one gives.
        values = {name: value for name, value in values.items() if value is not None or name not in optional}
        if any(value is None for value in values.values()):
            check_present(cls.define_schema().inputs, values)
        return execute(cls, **values)

    return run


def advanced(item: io.Input) -> io.Input:
    """An input that pages which know the word fold away until somebody asks for it; hosts do not take it when an input
    is made."""
    item.extra_dict = {**(item.extra_dict or {}), "advanced": True}
    return item


def schema(*, search_aliases: list[str], category: str = "LiveAvatar", **values: Any) -> io.Schema:
    """An ``io.Schema`` of the pack; ``search_aliases`` are left out on hosts that do not know them."""
    if "search_aliases" in _KNOWN:
        values["search_aliases"] = search_aliases
    return io.Schema(category=category, **values)
