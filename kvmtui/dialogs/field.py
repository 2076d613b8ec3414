"""All about a field of the header, every byte of it."""

from __future__ import annotations

import kvmlib
from kvmtui.dialogs.reading import ReadingDialog
from kvmtui.widgets.fieldtext import about, pair_detail
from kvmtui.widgets.lines import Line


class FieldDialog(ReadingDialog):
    """A field of one form."""

    def __init__(self, kd: kvmlib.Kvm, path: str, field: kvmlib.Field, start: int | None) -> None:
        super().__init__(f"Field: {kvmlib.printable(field.name)}")
        self._kd, self._path, self._field, self._start = kd, path, field, start

    def lines(self, width: int) -> list[Line]:
        return about(self._path, self._field, self._kd.machine, self._start, width)


class PairDialog(ReadingDialog):
    """A field in both forms."""

    def __init__(self, kd: kvmlib.Kvm, pair: kvmlib.FieldPair) -> None:
        super().__init__(f"Field: {kvmlib.printable(pair.field.name)}")
        self._kd, self._pair = kd, pair

    def lines(self, width: int) -> list[Line]:
        pair, reading = self._pair, self._kd.reading
        lines = pair_detail(pair, width)
        for form, title, field in (("device", "device form", pair.device), ("savecore", "saved form", pair.saved)):
            if field is not None:
                start = reading.headers.offset if reading is not None and form == self._kd.form else None
                lines += [[("", "")], *about(title, field, self._kd.machine, start, width)]
        return lines
