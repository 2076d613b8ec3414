"""Files of compress(1), read back: made by hand, and by the program where there is one."""

import io
import random
import shutil
import subprocess
import tracemalloc
from functools import cache
from pathlib import Path

import pytest

import kvmlib
from kvmlib.image import open_image
from kvmlib.lzw import unpack
from tests.zfiles import pack, write_codes, zeros


@cache
def samples() -> dict[str, bytes]:
    dice = random.Random(5)
    noise, words = dice.randbytes(75_000), b" ".join(dice.choices([b"panic", b"kernel", b"at", b"trap"], k=8_000))
    return {
        "nothing": b"",
        "one byte": b"a",
        "a few": b"aaaabaaaab",
        "noise": noise,
        "words": words,
        "zeros": bytes(100_000),
        "a bit of everything": noise[:20_000] + bytes(50_000) + words + noise[:10_000] + b"\xff" * 1000,
    }


def unpacked(data: bytes) -> bytes:
    return b"".join(unpack(io.BytesIO(data)))


@pytest.mark.parametrize(("block", "forget"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("bits", range(9, 17))
def test_read_back(bits: int, block: bool, forget: bool) -> None:
    gzip = shutil.which("gzip")
    for what, data in samples().items():
        packed = pack(data, bits, block, forget)
        assert unpacked(packed) == data, what
        if gzip and data:
            # So that it isn't only our own reading that the files made here are held against.
            done = subprocess.run([gzip, "-dc"], input=packed, capture_output=True, check=True)
            assert done.stdout == data, what


@pytest.mark.parametrize("bits", range(10, 17))  # With 9, ncompress 4.2.4 writes what it can't read itself.
def test_files_of_compress(bits: int) -> None:
    program = shutil.which("compress")
    for what, data in samples().items() if program else []:
        done = subprocess.run([str(program), "-cf", "-b", str(bits)], input=data, capture_output=True, check=True)
        assert unpacked(done.stdout) == data, what


def test_strings_are_forgotten_twice_over() -> None:
    assert unpacked(write_codes([256, 97, 256, 256, 98, 257])) == b"abbb"


def test_zeros_take_no_memory() -> None:
    packed, size = zeros(16_000)
    assert (len(packed) < 30_000, size > 120 << 20) == (True, True)
    tracemalloc.start()
    try:
        assert sum(map(len, unpack(io.BytesIO(packed)))) == size
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def damaged() -> dict[str, tuple[bytes, str]]:
    whole = pack(samples()["words"])
    return {
        "header only": (whole[:2], "ends inside its header"),
        "8 bits": (b"\x1f\x9d\x88abc", "its header says 0x88"),
        "17 bits": (b"\x1f\x9d\x91abc", "its header says 0x91"),
        "unknown flag": (b"\x1f\x9d\xb0abc", "its header says 0xb0"),
        "a code from nowhere": (write_codes([97, 300]), "code 300 is there where only 257 are known"),
        "the next code, too early": (write_codes([257]), "code 257 is there where only 257 are known"),
        "the next code, after forgetting": (write_codes([97, 98, 256, 257]), "code 257 is there"),
        "cut off": (write_codes([97])[:-1], "ends inside a code"),
        "bits behind the end": (write_codes([97])[:-1] + b"\x80", "ends inside a code"),
    }


@pytest.mark.parametrize("what", damaged())
def test_damaged(what: str, tmp_path: Path) -> None:
    data, reason = damaged()[what]
    path = tmp_path / "bsd.0.core.Z"
    path.write_bytes(data)
    with pytest.raises(kvmlib.FormatError) as e:
        open_image(path)
    assert str(e.value).startswith(f"{path} is a damaged compress file: ")
    assert reason in str(e.value)
    assert "\n" not in str(e.value)


def test_any_bytes() -> None:
    dice = random.Random(1)
    whole = pack(samples()["a bit of everything"])
    for _ in range(300):
        data = bytearray(whole[: dice.randrange(3, 20_000)])
        for _ in range(dice.randrange(5)):
            data[dice.randrange(3, len(data) + 1) - 1] = dice.randrange(256)
        try:
            unpacked(bytes(data))
        except ValueError as e:
            assert str(e)
