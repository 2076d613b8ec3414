"""The rows of a hex view, without Textual: every byte in exactly one row, every hole one row."""

from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from kvmtui.widgets.hexlayout import layout_for
from kvmtui.widgets.rows import Extent, Kind, RowModel, Tiling, size_text, tile

KINDS: tuple[Kind, ...] = ("present", "unmapped", "not_in_dump", "truncated")
WIDTHS = st.sampled_from((4, 8, 16, 32))


@st.composite
def tilings(draw: st.DrawFn, most: int = 90) -> Tiling:
    low = draw(st.integers(0, 200))
    sizes = draw(st.lists(st.integers(1, most), min_size=1, max_size=12))
    extents = []
    for size in sizes:
        extents.append(Extent(low, size, draw(st.sampled_from(KINDS))))
        low += size
    return Tiling.of(extents)


@given(tilings(), WIDTHS)
def test_every_address_is_in_exactly_one_row_and_the_rows_are_in_order(tiling: Tiling, width: int) -> None:
    model = RowModel(tiling, width)
    at = tiling.low
    for number in range(model.total):
        row = model.row(number)
        assert row.number == number
        assert row.start == at
        at += row.size
        for address in range(row.start, at):
            assert model.row_of(address) == number
    assert at == tiling.high


@given(tilings(), WIDTHS)
def test_a_row_of_bytes_begins_at_a_multiple_of_the_width_and_a_hole_is_one_row(tiling: Tiling, width: int) -> None:
    model = RowModel(tiling, width)
    holes = 0
    for number in range(model.total):
        row = model.row(number)
        extent = tiling[tiling.index(row.start)]
        assert row.kind == extent.kind
        if row.kind == "present":
            assert (row.start - row.skip) % width == 0
            assert row.skip + row.size <= width
        else:
            assert (row.start, row.size) == extent[:2]
            holes += 1
    assert holes == sum(kind != "present" for kind in tiling.kinds)


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 60), st.sampled_from(KINDS[:1] + KINDS[2:])), max_size=12)
)
def test_tile_covers_everything_and_keeps_what_was_said(pieces: list[tuple[int, int, Kind]]) -> None:
    low, high = 20, 280
    extents = [Extent(*p) for p in sorted(pieces)]
    told: dict[int, Kind] = {}
    for start, size, kind in extents:
        for address in range(start, start + size):
            told.setdefault(address, kind)
    tiled = list(tile(extents, low, high, "unmapped"))
    found = [kind for _, size, kind in tiled for _ in range(size)]
    assert found == [told.get(address, "unmapped") for address in range(low, high)]
    assert all(a.kind != b.kind for a, b in pairwise(tiled)), "neighbours of a kind are one"


def test_a_whole_64_bit_address_space() -> None:
    high = 1 << 64
    tiling = Tiling.of(tile([Extent(high - 8192, 4096, "present")], 0, high, "unmapped"))
    model = RowModel(tiling, 16)
    assert model.total == 1 + 256 + 1
    assert model.row(0).size == high - 8192
    assert model.row_of(high - 1) == 257
    assert model.row(257) == (257, high - 4096, 4096, "unmapped", 0)


def test_a_range_may_end_in_the_middle_of_a_row() -> None:
    tiling = Tiling.of([Extent(0, 20, "present"), Extent(20, 4, "truncated"), Extent(24, 16, "present")])
    model = RowModel(tiling, 16)
    assert [model.row(n) for n in range(model.total)] == [
        (0, 0, 16, "present", 0),
        (1, 16, 4, "present", 0),
        (2, 20, 4, "truncated", 0),
        (3, 24, 8, "present", 8),
        (4, 32, 8, "present", 0),
    ]


def test_outside() -> None:
    model = RowModel(Tiling.of([Extent(16, 16, "present")]), 16)
    for address in (15, 32):
        with pytest.raises(ValueError, match="lies outside"):
            model.row_of(address)
    for number in (-1, 1):
        with pytest.raises(IndexError):
            model.row(number)
    assert (model.clamp(0), model.clamp(99)) == (16, 31)
    with pytest.raises(ValueError, match="at least one"):
        Tiling.of([])
    with pytest.raises(ValueError, match="doesn't follow"):
        Tiling.of([Extent(0, 4, "present"), Extent(5, 4, "present")])


def test_next_and_previous_range() -> None:
    kinds: list[Kind] = ["unmapped", "present", "not_in_dump", "present", "unmapped"]
    tiling = Tiling.of([Extent(16 * i, 16, kind) for i, kind in enumerate(kinds)])
    assert [tiling.next_present(a) for a in (0, 20, 40, 50, 70)] == [16, 48, 48, None, None]
    assert [tiling.previous_present(a) for a in (0, 16, 20, 40, 48, 79)] == [None, None, 16, 16, 16, 48]


@pytest.mark.parametrize("digits", [4, 8, 12, 16])
@pytest.mark.parametrize("columns", [30, 39, 40, 79, 80, 119, 120, 160])
def test_a_layout_fits_and_its_columns_do_not_overlap(columns: int, digits: int) -> None:
    layout = layout_for(columns, digits)
    assert layout.width <= columns
    assert layout.digits + layout.hidden == digits
    taken = list(range(layout.digits))
    for i in range(layout.bytes):
        taken += [layout.hex_column(i), layout.hex_column(i) + 1, layout.text_column(i)]
        assert layout.byte_at(layout.hex_column(i)) == layout.byte_at(layout.text_column(i)) == i
    assert len(set(taken)) == len(taken)
    assert max(taken) == layout.width - 1
    assert len(layout.heading()) == layout.width


def test_80_columns_hold_16_bytes_and_40_hold_8() -> None:
    for digits in (8, 12, 16):
        assert layout_for(79, digits).bytes == 16
        assert layout_for(39, digits).bytes == 8


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (4096, "4 KiB"),
        (4097, "4097 bytes"),
        (3 << 30, "3 GiB"),
        ((1 << 31) - 4096, "2.0 GiB"),
        ((1 << 64) - (1 << 48), "16.0 EiB"),
    ],
)
def test_sizes(n: int, text: str) -> None:
    assert size_text(n) == text
