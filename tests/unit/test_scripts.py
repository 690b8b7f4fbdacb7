"""What the scripts share, in scripts/tools/common.sh."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_find_python__when_the_venv_comes_first_on_the_path__names_a_python_outside_of_it():
    # scripts/setup once took the venv's own Python, removed the venv for a new lock, and could not make it again.
    # It must name the Python that the venv was made from.
    command = ["bash", "-c", ". scripts/tools/common.sh; command -v python3; find_python 11 14"]
    first, found = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    assert first == str(ROOT / ".venv" / "bin" / "python3")
    assert ROOT / ".venv" not in Path(found).parents
    assert Path(found).is_file()
