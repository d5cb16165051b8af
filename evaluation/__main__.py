"""`python -m evaluation`: see `evaluation.cli`."""

from __future__ import annotations

import sys

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
from avatar.evaluation.cli import main

sys.exit(main())
