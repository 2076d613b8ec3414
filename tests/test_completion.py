"""Completion in the shell: what a person gets for Tab."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import kvmlib
import kvmlib.__main__
import kvmtui.__main__

pytest.importorskip("shtab", reason="the extra 'completion' is not installed")

PARSERS = {"kvmdump": kvmlib.__main__.parser, "kvmtui": kvmtui.__main__.parser}


def completed(tmp_path: Path, words: Sequence[str]) -> list[str]:
    """What bash offers for the last of these words."""
    script = tmp_path / "script"
    script.write_text(kvmlib.shell_completion(PARSERS[words[0]](), "bash"))
    ask = f"""
        . {script}
        COMP_WORDS=("$@")
        COMP_CWORD=$(($# - 1))
        _shtab_{words[0]}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash here")
    done = subprocess.run([bash, "-c", ask, "sh", *words], cwd=tmp_path, check=True, capture_output=True, text=True)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("kvmdump", "s"), ["symbols", "save", "sample"]),
        (("kvmdump", "save", "--sa"), ["--salvage"]),
        (("kvmdump", "inval", "--s"), ["--saved"]),
        (("kvmdump", "info", "-m", "openbsd/a"), ["openbsd/alpha", "openbsd/amd64", "openbsd/arm", "openbsd/arm64"]),
        (("kvmdump", "sample", "al"), ["all"]),
        (("kvmdump", "info", "bs"), ["bsd.0.core"]),
        (("kvmdump", "save", "bsd.0.core", ""), ["crash"]),
        (("kvmtui", "bs"), ["bsd.0.core"]),
        (("kvmtui", "--sample", "netbsd/v"), ["netbsd/vax"]),
        (("kvmtui", "--fo"), ["--force-kernel"]),
    ],
)
def test_bash_completes(tmp_path: Path, words: tuple[str, ...], offered: list[str]) -> None:
    (tmp_path / "bsd.0.core").touch()
    (tmp_path / "crash").mkdir()
    assert completed(tmp_path, words) == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
@pytest.mark.parametrize("name", list(PARSERS))
def test_each_shell_has_a_script(name: str, shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        PARSERS[name]().parse_args(["--print-completion", shell])
    assert end.value.code == 0
    script = capsys.readouterr().out
    assert "force-kernel" in script
    assert name in script
    assert "netbsd/sparc64" in script
    if found := shutil.which(shell):
        subprocess.run([found, "-n"], input=script, check=True, text=True)


@pytest.mark.parametrize("name", list(PARSERS))
def test_without_shtab_it_is_one_sentence(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit) as end:
        PARSERS[name]().parse_args(["--print-completion", "bash"])
    assert end.value.code == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"{name}: completion scripts are made by shtab: pip install 'kvmtui[completion]' brings it\n"
