"""Values that papers have published, to stand beside one's own.

Their data are not public, so they say where a method stands and not what a video here should reach.
"""

from __future__ import annotations

SOURCE = "arXiv 2512.04677 (GenBench; short: 100 clips of about 10 s, long: 15 of more than 5 min)"
ROWS: tuple[tuple[str, dict[str, float]], ...] = (
    (
        "LiveAvatar, short",
        {"ASE": 3.44, "IQA": 4.51, "Sync-C": 7.03, "Sync-D": 8.30, "Dino-S": 0.96, "FPS": 45.2},
    ),
    ("LiveAvatar, long", {"ASE": 3.42, "IQA": 4.76, "Sync-C": 7.16, "Sync-D": 8.31, "Dino-S": 0.97}),
    ("WanS2V, short", {"ASE": 3.36, "IQA": 4.29, "Sync-C": 5.89, "Sync-D": 9.08, "Dino-S": 0.95}),
    ("WanS2V, long", {"ASE": 2.63, "IQA": 3.99, "Sync-C": 6.04, "Sync-D": 9.12, "Dino-S": 0.80}),
    (
        "Ditto, short",
        {"ASE": 3.31, "IQA": 4.24, "Sync-C": 4.09, "Sync-D": 10.76, "Dino-S": 0.99, "FPS": 21.8},
    ),
    ("Ditto, long", {"ASE": 2.90, "IQA": 4.48, "Sync-C": 3.98, "Sync-D": 10.57, "Dino-S": 0.97}),
    (
        "SoulX-FlashTalk, short",
        {"ASE": 3.48, "IQA": 4.53, "Sync-C": 7.12, "Sync-D": 8.25, "Dino-S": 0.96, "FPS": 32.5},
    ),
    ("OmniAvatar, long", {"ASE": 2.36, "IQA": 2.86, "Sync-C": 8.00, "Sync-D": 7.59, "Dino-S": 0.66}),
)
COLUMNS = ("ASE", "IQA", "Sync-C", "Sync-D", "Dino-S", "FPS")
WARNING = (
    "Read Sync-C together with Dino-S: when a face collapses, Sync-C rises, as in the last published row. "
    "FPS were measured on several H800."
)
