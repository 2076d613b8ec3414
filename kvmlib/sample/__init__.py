"""Sample dumps: a swap partition with a dump on it, and the kernel that it is of, for every machine.

They are for learning, for trying the programs out, and for tests: what is in memory and where it is mapped is known
here without asking any of the code that reads dumps. The same name gives the same bytes each time.
"""

from __future__ import annotations

import os
from pathlib import Path

from kvmlib.errors import KvmError
from kvmlib.ports import MACHINES
from kvmlib.sample.dump import Recipe, Sample, SampleFrame, build
from kvmlib.text import printable

__all__ = ["Sample", "SampleFrame", "make_sample", "sample_names"]


def _recipes() -> dict[str, Recipe]:
    recipes = {}
    for m in MACHINES:
        for form in (m, *m.forms):
            for plan in form.samples():
                for space in plan.spaces:
                    variant = "-".join(v for v in (form.variant, space.variant) if v)
                    recipes[f"{m.name}-{variant}" if variant else m.name] = Recipe(form, plan, space)
                if plan.sparse:
                    recipes[f"{m.name}-sparse"] = Recipe(form, plan, plan.spaces[0], sparse=True)
    return recipes


def sample_names() -> tuple[str, ...]:
    """Return the samples that can be made: ``os/arch``, with ``-variant`` where a machine has several forms."""
    return tuple(_recipes())


def make_sample(name: str, directory: str | os.PathLike[str]) -> Sample:
    """Make the sample called `name`: ``os-arch[-variant].img``, and its kernel, the same with ``.elf``, in `directory`.

    Files of these names that are there are written over.

    Raises:
        KvmError: there is no such sample; the files can't be written.
    """
    key = name.strip().lower()
    recipe = _recipes().get(key)
    if recipe is None:
        raise KvmError(f"there is no sample {printable(repr(name))}: the samples are {', '.join(sample_names())}")
    stem = Path(directory) / key.replace("/", "-")
    sample, image, kernel = build(key, recipe, f"{stem}.img", f"{stem}.elf")
    for path, data in ((sample.image, image), (sample.kernel, kernel)):
        try:
            Path(path).write_bytes(data)
        except OSError as e:
            raise KvmError(f"cannot write the sample {printable(path)}: {e.strerror}") from e
    return sample
