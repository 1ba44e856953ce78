"""Where windlass-shim is, for tests that run it; the editable install has put it there."""

from pathlib import Path

import windlass.execdriver.native

SHIM = str(Path(windlass.execdriver.native.__file__).parent / "windlass-shim")
