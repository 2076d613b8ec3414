"""Physical memory for the tests of ARM's page tables: tables are written by hand, not with kvmlib."""

from kvmlib.errors import NotInDumpError, TranslationError
from kvmlib.kcore import ByteOrder, Headers, KcoreHdr
from kvmlib.translate import Translator


class Memory:
    """Tables of `entry_bytes` per entry; what wasn't written isn't in the dump."""

    def __init__(self, order: ByteOrder = "little") -> None:
        self.order = order
        self.tables: dict[int, bytearray] = {}

    def table(self, pa: int, count: int, entry_bytes: int, entries: dict[int, int]) -> None:
        data = bytearray(count * entry_bytes)
        for index, entry in entries.items():
            data[index * entry_bytes : (index + 1) * entry_bytes] = entry.to_bytes(entry_bytes, self.order)
        self.tables[pa] = data

    def read(self, pa: int, n: int) -> bytes:
        for start, data in self.tables.items():
            if start <= pa and pa + n <= start + len(data):
                return bytes(data[pa - start : pa - start + n])
        raise NotInDumpError(f"pa {pa:#x} is not in the dump", pa)


def why(t: Translator, va: int) -> str:
    """The text of the failure, which the walk must agree with; empty where there is none."""
    last = t.walk(va)[-1]
    try:
        pa, n = t.kvatop(va)
    except TranslationError as e:
        assert last.outcome in ("invalid", "unreadable", "outside")
        assert last.note in str(e)
        assert e.size >= 1
        return str(e)
    assert n >= 1
    assert last.outcome in ("page", "window")
    assert last.pa == pa
    return ""


def headers(cpu_data: bytes, kcore_hdr: KcoreHdr, form: str = "device") -> Headers:
    assert form in ("device", "savecore")
    return Headers("device" if form == "device" else "savecore", 0, kcore_hdr, cpu_data, 8, 8 + len(cpu_data), None)
