"""Where windlass-files is, for tests that run it; the editable install has put it there."""

from pathlib import Path

import windlass.execdriver.native

FILES = str(Path(windlass.execdriver.native.__file__).parent / "windlass-files")
