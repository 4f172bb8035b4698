"""Where things lie: the checkout, and the real development data beside it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
NODE = ROOT / "tests" / "support" / "node"
