"""How bytes are spelled in a hex view: as units of 1, 2, 4 or 8 bytes or as pointers; in hex, in decimal or as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Form = Literal["hex", "dec", "char"]
ByteOrder = Literal["little", "big"]

FORMS: tuple[Form, ...] = ("hex", "dec", "char")
UNITS = (1, 2, 4, 8)
_DECIMAL = {1: 3, 2: 5, 4: 10, 8: 20}
_ESCAPES = {0: r"\0", 7: r"\a", 8: r"\b", 9: r"\t", 10: r"\n", 11: r"\v", 12: r"\f", 13: r"\r", 27: r"\e", 92: r"\\"}


@dataclass(frozen=True, slots=True)
class Shape:
    """How a row's bytes are spelled.

    Attributes:
        unit: bytes that are one number.
        form: in hex, in decimal without a sign, or as characters, the highest byte first.
        byteorder: of a number.
        pointers: one number in a row, in hex, with room beside it for what it points to.
    """

    unit: int = 1
    form: Form = "hex"
    byteorder: ByteOrder = "little"
    pointers: bool = False

    @property
    def cell(self) -> int:
        """Columns of a number."""
        if self.form == "hex" or self.pointers:
            return 2 * self.unit
        return _DECIMAL[self.unit] if self.form == "dec" else max(2, self.unit)

    @property
    def said(self) -> str:
        """It in a few words; empty for bytes in hex."""
        if self.pointers:
            return f"{self.unit}-byte pointers, {self.byteorder}-endian"
        words = [] if self.unit == 1 else [f"{self.unit} bytes, {self.byteorder}-endian"]
        if self.form != "hex":
            words.append({"dec": "decimal", "char": "characters"}[self.form])
        return ", ".join(words)

    def spell(self, data: bytes) -> str:
        """Spell one unit, in `cell` columns."""
        if self.form == "char" and not self.pointers:
            if self.unit == 1:
                return _character(data[0])
            ordered = data if self.byteorder == "big" else data[::-1]
            return "".join(chr(b) if 0x20 <= b < 0x7F else "." for b in ordered)
        value = int.from_bytes(data, self.byteorder)
        return f"{value:>{self.cell}}" if self.form == "dec" and not self.pointers else f"{value:0{self.cell}x}"


def _character(byte: int) -> str:
    if byte in _ESCAPES:
        return _ESCAPES[byte]
    return f" {chr(byte)}" if 0x20 <= byte < 0x7F else f"{byte:02x}"


def next_unit(shape: Shape, pointer: int) -> Shape:
    """Return the next choice of units: 1, 2, 4, 8 bytes, pointers of `pointer` bytes, and round again."""
    if shape.pointers:
        return Shape(1, shape.form, shape.byteorder)
    if shape.unit == UNITS[-1]:
        return Shape(pointer, shape.form, shape.byteorder, True)
    return Shape(UNITS[UNITS.index(shape.unit) + 1], shape.form, shape.byteorder)
