"""Ships the operator with its own sources, so that a TaskManager never runs another job's code.

PyFlink's thread mode keeps one interpreter, and so one copy of each imported module, for all jobs
of a TaskManager: a second submission would run the first one's code. cloudpickle's own by-value
mode breaks dataclasses (their fields compare sentinels by identity). So this module alone goes by
value, and imports the rest afresh from source: docs/decisions/0001-sources-travel.md
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import pickle
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

PACKAGES = ("flink_jobs", "login_blocking")

_LOCK_NAME = "_login_blocking_import_lock"


def subject_of(hit: Any) -> str:  # noqa: ANN401 — PyFlink's Row has no types
    """The key of a row of hits or commands."""
    return key_of(hit[0], hit[1])


def key_of(subject_type: str, subject: str) -> str:
    """Type and subject as one key, which is how the operator reads them back."""
    return f"{subject_type}:{subject}"


def loaded_sources() -> dict[str, str]:
    """Module name → source of all that is imported of PACKAGES here; packages end in a dot."""
    sources = {}
    for name, module in list(sys.modules.items()):
        spec = module.__spec__ if _is_ours(name) else None
        if spec is None or not isinstance(spec.loader, importlib.abc.InspectLoader):
            continue
        source = spec.loader.get_source(name)
        if source is not None:
            sources[name + "." * (spec.submodule_search_locations is not None)] = source
    return sources


def shipped(
    module: str, attribute: str, arguments: Sequence[object]
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """What `__reduce__` returns for an object that is to be built afresh from these sources."""
    return build, (loaded_sources(), module, attribute, pickle.dumps(tuple(arguments)))


def build(sources: dict[str, str], module: str, attribute: str, arguments: bytes) -> Any:  # noqa: ANN401 — whatever it is called for
    """Calls `module.attribute(*arguments)` on modules made from `sources` alone."""
    with _only_these(sources):
        factory = getattr(importlib.import_module(module), attribute)
        # Unpickled in here: the arguments' classes must be these modules' own.
        return factory(*pickle.loads(arguments))  # noqa: S301 — the job's own bytes


class _SourceLoader(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = {name.rstrip("."): source for name, source in sources.items()}
        self._packages = {name.rstrip(".") for name in sources if name.endswith(".")}

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 — the interface's own
        target: ModuleType | None = None,  # noqa: ARG002 — the interface's own
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._sources:
            return None
        return importlib.util.spec_from_loader(
            fullname, self, is_package=fullname in self._packages
        )

    def get_source(self, fullname: str) -> str:
        return self._sources[fullname]


@contextmanager
def _only_these(sources: Mapping[str, str]) -> Iterator[None]:
    # One lock for all jobs of this interpreter: each has its own copy of this module.
    lock: threading.Lock = sys.__dict__.setdefault(_LOCK_NAME, threading.Lock())
    with lock:
        hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_ours(name)}
        loader = _SourceLoader(sources)
        sys.meta_path.insert(0, loader)
        try:
            yield
        finally:
            sys.meta_path.remove(loader)
            for name in [name for name in sys.modules if _is_ours(name)]:
                del sys.modules[name]
            sys.modules.update(hidden)


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] in PACKAGES
