"""The vectors: libkvm's own answers, unpacked once a session. Those with seed 1 are kept in tests/vectors too."""

import gzip
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import kvmlib
from tests.conftest import ROOT, shared_dir

HERE = ROOT / "tests" / "vectors"


def folders(*, refused: bool | None = None) -> list[Path]:
    """All cases of the machines that there are: the shared ones, and the repository's own.

    `refused`: only those whose header libkvm refuses, or only the others.
    """
    shared = shared_dir()
    found = {p.parent.name: p.parent for p in HERE.glob("*/expect.json")}
    if shared is not None:
        found |= {p.parent.name: p.parent for p in (shared / "vectors").glob("*/expect.json")}
    known = {m.name for m in kvmlib.machines()}
    about = {p: json.loads((p / "expect.json").read_text()) for _, p in sorted(found.items())}
    return [
        p for p, d in about.items() if f"{d['os']}/{d['arch']}" in known and refused in (None, d["mkheader_return"] < 0)
    ]


def number(text: str | int) -> int:
    return int(text, 16) if isinstance(text, str) else text


@dataclass
class Case:
    """One case, with its images unpacked in `work`."""

    folder: Path
    work: Path
    opened: list[kvmlib.Kvm] = field(default_factory=list)

    @cached_property
    def expect(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.folder / "expect.json").read_text())
        return loaded

    @property
    def kernel(self) -> Path:
        return self.folder / "kernel.elf"

    @cached_property
    def machine(self) -> str:
        return f"{self.expect['os']}/{self.expect['arch']}"

    @property
    def stub(self) -> bool:
        """Libkvm's translator for it is none, or never works."""
        return self.expect["translator"] in ("stub", "broken")

    def image(self, name: str) -> Path:
        path = self.work / name
        if not path.exists():
            path.write_bytes(gzip.decompress((self.folder / f"{name}.gz").read_bytes()))
        return path

    def device(self, *, write: bool = False) -> kvmlib.Kvm:
        kd = kvmlib.Kvm(self.image("device.img"), system=self.kernel, machine=self.machine, write=write)
        kd.dump_mkheader(self.expect["dump_off"])
        self.opened.append(kd)
        return kd

    def saved(self) -> kvmlib.Kvm:
        kd = kvmlib.Kvm(self.image("saved.core"), system=self.kernel, machine=self.machine)
        self.opened.append(kd)
        return kd
