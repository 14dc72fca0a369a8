"""Where things are. TOLLGATE_BINARY and TOLLGATE_FIXTURES point elsewhere when needed."""

import os
from pathlib import Path

CLONE = Path(__file__).resolve().parents[3]
BINARY = Path(os.environ.get("TOLLGATE_BINARY", CLONE / "build" / "tollgate"))
FIXTURES = Path(os.environ.get("TOLLGATE_FIXTURES", CLONE.parent / "shared" / "fixtures"))
VENV_PYTHON = CLONE / "build" / "venv" / "bin" / "python"
