"""Every code block of the README and of the docs runs, and console blocks print what the page says.

- ``console``: lines that begin with ``$`` run in one bash session per page, in a folder of its own, with a home of its
  own; the lines below them are compared with the output. ``…`` stands for anything on one line, a line that is only
  ``…`` for any number of lines. A command that fails must be followed by a line ``[exit N]``.
  ``$ scripts/NAME`` runs at the root of the tree, ``scripts/demo`` with few payments; only ``scripts/test``, which runs
  these tests, is not started again.
- ``python``: runs as a program in the same folder and home, and must not fail.
- ``json``, ``toml``, ``ini``: must parse.
- ``text``: pictures and forms; the only kind that nothing checks. ``solidity`` must be part of a source file.
"""

import configparser
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>[\w+-]*)[^\n]*\n(?P<body>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
KINDS = {"console", "python", "json", "toml", "ini", "text", "solidity"}
END = "__pyiot_block_end__"
ANY = "…"
TALK = " …"
"""What a command says while it works ends so; whether it is said depends on how long it takes."""


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    kind: str
    body: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(
            page,
            text[: m.start()].count("\n") + 2,
            m["kind"],
            re.sub(rf"^{m['indent']}", "", m["body"], flags=re.MULTILINE),
        )
        for m in FENCE.finditer(text)
    ]


def commands(block: Block) -> list[tuple[int, str, list[str]]]:
    """Return each command of a console block with its line and the output that the page shows."""
    found: list[tuple[int, str, list[str]]] = []
    for number, line in enumerate(block.body.splitlines(), start=block.line):
        if line.startswith("$ "):
            found.append((number, line[2:], []))
        elif found and line.startswith("> "):
            found[-1] = (found[-1][0], found[-1][1] + "\n" + line[2:], found[-1][2])
        elif found:
            found[-1][2].append(line)
        else:
            raise AssertionError(f"{block.page}:{number}: a console block begins with a command")
    return found


def matches(expected: list[str], printed: list[str]) -> bool:
    """Whether what was printed is what the page shows."""
    if not expected:
        return not printed
    if expected[0].strip() == ANY:
        return any(matches(expected[1:], printed[i:]) for i in range(len(printed) + 1))
    if not printed:
        return False
    pattern = ".*".join(re.escape(part) for part in expected[0].split(ANY))
    return re.fullmatch(pattern, printed[0]) is not None and matches(expected[1:], printed[1:])


class Page:
    """One page's folder, home and bash session."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        samples = ROOT / "pyiot_evm" / "samples"
        for sample in samples.glob("*.csv"):
            shutil.copy(sample, folder)
        self.environment = {
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYIOT_HOME": str(folder / ".pyiot"),
            "PYIOT_PASSPHRASE": "a passphrase for the documentation",
            "PYIOT_KEY_COST": "light",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "PYTHONUTF8": "1",
            "XDG_CACHE_HOME": str(folder / ".cache"),
        }
        self.bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder, env=self.environment, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, command: str) -> tuple[list[str], int]:
        self.bash.stdin.write(f"{command}\necho {END}$?\n")
        self.bash.stdin.flush()
        lines = []
        for line in self.bash.stdout:
            head, marker, code = line.rstrip("\n").partition(END)
            if head:
                lines.append(head)
            if marker:
                return [line.rstrip() for line in lines], int(code)
        raise AssertionError(f"the shell ended at {command!r}: {lines}")

    def close(self) -> None:
        for process in Path("/proc").glob("[0-9]*"):  # a broken command line must not leave a node behind either
            with contextlib.suppress(OSError):
                if f"{self.folder}/.pyiot/devnet".encode() in (process / "cmdline").read_bytes():
                    os.kill(int(process.name), signal.SIGTERM)
        self.bash.stdin.write("kill $(jobs -p) 2>/dev/null; exit\n")
        self.bash.stdin.close()
        self.bash.wait(timeout=30)


def run_script(command: str) -> tuple[list[str], int]:
    """Run a script of the tree, all but the one that runs this test."""
    name, *words = command.split()
    assert os.access(ROOT / name, os.X_OK), f"{name} is no script"
    if name == "scripts/test":
        return [], 0
    environment = os.environ | {"PYIOT_SETUP_DONE": "1", "NO_COLOR": "1", "PYIOT_DEMO_PAYMENTS": "20"}
    done = subprocess.run(
        [ROOT / name, *words],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return [line.rstrip() for line in done.stdout.splitlines()], done.returncode


def check_console(block: Block, page: Page) -> None:
    for number, command, expected in commands(block):
        printed, code = run_script(command) if command.startswith("scripts/") else page.run(command)
        printed = [
            *[line for line in printed if line and not line.endswith(TALK)],
            *([f"[exit {code}]"] if code else []),
        ]
        wanted = [line.rstrip() for line in expected if line.strip()]
        assert matches(wanted, printed), "\n".join(
            [f"{block.page.name}:{number}: $ {command}", "the page says:", *wanted, "printed was:", *printed]
        )


def check_python(block: Block, page: Page) -> None:
    done = subprocess.run(
        [sys.executable, "-c", block.body],
        cwd=page.folder,
        env=page.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{block.page.name}:{block.line}\n{done.stdout}{done.stderr}"


def check_data(block: Block) -> None:
    if block.kind == "json":
        json.loads(block.body)
    elif block.kind == "toml":
        tomllib.loads(block.body)
    elif block.kind == "ini":
        configparser.ConfigParser(interpolation=None, strict=False).read_string(block.body)
    elif block.kind == "solidity":
        sources = "".join(re.sub(r"\s+", " ", path.read_text()) for path in (ROOT / "contracts").rglob("*.sol"))
        assert re.sub(r"\s+", " ", block.body).strip() in sources, f"{block.page.name}:{block.line}: not in contracts/"


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_blocks__when_a_page_is_followed__run_and_print_what_it_says(path, tmp_path):
    found = blocks(path)
    unknown = [f"{b.page.name}:{b.line}: {b.kind!r}" for b in found if b.kind not in KINDS]
    assert unknown == []
    if not any(block.kind in ("console", "python") for block in found):
        for block in found:
            check_data(block)
        return
    page = Page(tmp_path)
    try:
        for block in found:
            if block.kind == "console":
                check_console(block, page)
            elif block.kind == "python":
                check_python(block, page)
            else:
                check_data(block)
    finally:
        page.close()


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links__when_followed__lead_to_files_and_headings_that_exist(path):
    text = FENCE.sub("", path.read_text())
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = path if not name else (path.parent / name).resolve()
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def anchors(file: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", file.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_matches__when_lines_are_open__takes_any_text_and_any_number_of_lines():
    assert matches(["a … c", "…", "z"], ["a bb c", "1", "2", "z"])
    assert matches(["…"], [])
    assert not matches(["a"], ["b"])
    assert not matches(["a"], ["a", "b"])
    assert not matches(["a", "b"], ["a"])


def test_readme__when_measured__has_at_most_120_lines():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
