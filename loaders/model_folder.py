"""Checkpoints of a model in a folder of the host's models, beside the published one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ModelFolder:
    """A folder in ``models``, and in the entries of ``extra_model_paths.yaml``.

    Attributes:
        name: of the folder.
        published: the hub's repository ("owner/name").
        holds_weights: whether a folder in it is a checkpoint.
    """

    name: str
    published: str
    holds_weights: Callable[[Path], bool]

    def roots(self) -> list[Path]:
        """``models/<name>``, made known to the host, behind the entries of ``extra_model_paths.yaml``."""
        import folder_paths

        folder_paths.add_model_folder_path(self.name, str(Path(folder_paths.models_dir) / self.name))
        return [Path(root) for root in folder_paths.get_folder_paths(self.name)]

    def checkpoints(self) -> list[str]:
        """Names that can be chosen: the published repository, then folders with weights."""
        published = self.published.partition("/")[2]
        return [self.published, *sorted({path.name for path in self._folders() if path.name != published})]

    def source(self, checkpoint: str) -> str:
        """The place of a name from `checkpoints`: the repository, or a folder; FileNotFoundError when it is gone."""
        if checkpoint == self.published:
            return checkpoint
        for folder in self._folders():
            if folder.name == checkpoint:
                return str(folder)
        raise FileNotFoundError(
            f"The folder {checkpoint} with weights is not in models/{self.name}; reload the page."
        )

    def _folders(self) -> list[Path]:
        roots = [root for root in self.roots() if root.is_dir()]
        return [
            path
            for root in roots
            for path in sorted(root.iterdir())
            if path.is_dir() and self.holds_weights(path)
        ]
