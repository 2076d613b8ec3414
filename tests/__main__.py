"""Every check of the project in one command: python -m tests [arguments for pytest]."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# import-linter is the one tool that `python -m` doesn't run.
LINT_IMPORTS = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"


def checks(pytest_arguments: list[str]) -> dict[str, list[str]]:
    """What runs, quick checks first; pytest closes, so that the last line says how many tests passed."""
    return {
        "ruff check": ["-m", "ruff", "check"],
        "ruff format --check": ["-m", "ruff", "format", "--check"],
        "mypy": ["-m", "mypy"],
        "lint-imports": ["-c", LINT_IMPORTS],
        # On every core: on one it takes a quarter of an hour. What is idle takes tests from what is busy.
        "pytest": ["-m", "pytest", "--numprocesses=auto", "--dist=worksteal", *pytest_arguments],
    }


def main() -> int:
    failed = []
    for name, arguments in checks(sys.argv[1:]).items():
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, *arguments], cwd=ROOT, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"FAILED: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
