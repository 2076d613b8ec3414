"""Text from a dump, from its kernel, from paths and from the command line: no command lets it out as it is."""

import json
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

import kvmlib
from kvmlib.__main__ import main
from tests.hostile import EVIL, EVIL_BYTES, hostile_sample, strings_in, unsafe

NAMES = ("openbsd/amd64", "openbsd/i386", "netbsd/amd64", "netbsd/i386")
Capture = pytest.CaptureFixture[str]


@pytest.fixture(params=NAMES)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> kvmlib.Sample:
    folder = tmp_path / EVIL.replace("/", "_")
    folder.mkdir()
    return hostile_sample(folder, request.param)


def harmless(capsys: Capture, argv: list[str]) -> str:
    """Run a command, as text and as JSON; return all that came out."""
    said = ""
    for flags in ([], ["--json"]):
        status = main([*argv, *flags])
        out, err = capsys.readouterr()
        assert not unsafe(out), argv
        assert not unsafe(err), argv
        assert out or err or argv[0] == "read", argv
        if flags and out and status != 2:
            assert out.isascii()
            for text in strings_in(json.loads(out)):
                assert not unsafe(text), argv
        said += out + err
    return said


def test_every_command(sample: kvmlib.Sample, tmp_path: Path, capsys: Capture) -> None:
    crash = tmp_path / "crash"
    crash.mkdir()
    image, kernel, name = sample.image, sample.kernel, EVIL.replace("/", "_")
    for argv in (
        ["find", image],
        ["info", image],
        ["info", image, "-N", kernel],
        ["info", image, "-N", kernel, "--force-kernel"],
        ["translate", image, "version"],
        ["read", image, "version", "512"],
        ["read", image, "0x0", "64"],
        ["map", image],
        ["dmesg", image],
        ["dmesg", image, "--all"],
        ["symbols", image],
        ["symbols", image, "*" + EVIL[:3] + "*"],
        ["symbols", image, "--elf", str(crash / name)],
        ["save", image, str(crash), "-f"],
        ["save", image, str(tmp_path / name), "-f"],
        ["find", str(crash / "bsd.0.core")],
        ["inval", image, "--yes", "-f", "--record", str(tmp_path / f"record{name}")],
        ["inval", image, "--undo", str(tmp_path / f"record{name}")],
        ["inval", image, "--undo", image],
        ["sample", EVIL, str(crash)],
        [EVIL],
        ["info", EVIL],
        ["info", image, "-m", EVIL],
        ["read", image, EVIL, EVIL],
    ):
        harmless(capsys, argv)
    # Without the kernel file: what lies in memory is evil too.
    Path(kernel).unlink()
    for argv in (["info", image], ["symbols", image], ["dmesg", image]):
        assert "\\x1b[" in harmless(capsys, argv)


def test_what_is_written(sample: kvmlib.Sample, tmp_path: Path, capsys: Capture) -> None:
    """A saved core's files are called as always, and info.N is as harmless as the report."""
    crash = tmp_path / "crash"
    crash.mkdir()
    assert main(["save", sample.image, str(crash), "-f"]) == 0
    written = {p.name: p for p in crash.iterdir()}
    for name, path in written.items():
        assert name.isascii()
        assert name.isprintable()
        if not name.endswith(".core") and path.read_bytes()[:4] != b"\x7fELF":
            text = path.read_text("utf-8")
            assert not unsafe(text), name
    assert any(name.startswith("info") for name in written)


def test_the_report_stays_narrow(sample: kvmlib.Sample) -> None:
    with kvmlib.open(sample.image) as kd:
        text = kvmlib.report_text(kd)
    assert not unsafe(text)
    assert all(len(line) <= 79 for line in text.splitlines())
    assert "\\x1b[31m[red]\\u202e" in text


def test_bytes_and_text_come_to_the_same() -> None:
    assert kvmlib.decode(EVIL.encode()) == kvmlib.printable(EVIL)
    assert not unsafe(kvmlib.decode(EVIL_BYTES), "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("e\u0301 \u0939\u093f\u0928\u094d\u0926\u0940", "e\u0301 \u0939\u093f\u0928\u094d\u0926\u0940"),
        ("e\u0301\u0301\u0301\u0301x", "e\u0301\u0301\\u0301\\u0301x"),
        ("\u0301 \u0301-\u0301", "\\u0301 \\u0301-\\u0301"),
        ("a\u20dd", "a\\u20dd"),
        ("a\ufe0f\U000e0100", "a\\ufe0f\\U000e0100"),
        ("a\tb\x00\n", "a\tb\\x00\n"),
        ("\u00e9\tb\x00\n", "\u00e9\tb\\x00\n"),
    ],
)
def test_marks_that_take_no_cell(text: str, shown: str) -> None:
    assert kvmlib.printable(text, "\n\t") == shown


@given(st.text() | st.text(alphabet=EVIL))
def test_printable_text_is_safe_and_stays_as_it_is(text: str) -> None:
    shown = kvmlib.printable(text, "\n\t")
    assert not unsafe(shown)
    assert kvmlib.printable(shown, "\n\t") == shown
