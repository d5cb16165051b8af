"""What nodes that write files share."""

from __future__ import annotations

from typing import Any

from .names import check_prefix
from .output_names import fill_in
from .schema import Node


class SavingNode(Node):
    """A node with an input ``filename_prefix``."""

    @classmethod
    def check(cls, values: dict[str, Any]) -> None:
        """Names that no file can have are refused when the workflow is queued."""
        super().check(values)
        if "filename_prefix" in values:
            check_prefix(values["filename_prefix"])

    @classmethod
    def fingerprint_inputs(cls, filename_prefix: str | None = None, **_) -> str:
        """Another date in the name is another file, even if nothing else has changed."""
        return fill_in(filename_prefix or "", None)
