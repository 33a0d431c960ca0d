"""What a run depends on beside its configuration, as digests: so that nobody goes on with other documents or weights.

Paths are not part of it, so a run can go on where its files lie elsewhere. Images are not read: a document holds the
sha256 of each of its pages, which is checked whenever one is.
"""

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.machinery import PathFinder
from pathlib import Path

from learner.manifest import MANIFEST
from medvie_rl.config import Config
from medvie_rl.data.load import RunData
from medvie_rl.data.ocr import engine_version
from medvie_rl.data.prompts import prompt_files
from medvie_rl.data.store import Document
from medvie_rl.errors import ConfigError
from medvie_rl.records import records_digest
from medvie_rl.traces import traces_digest

_SMALL_BYTES = 64 * 2**20  # larger files that are no weights are told apart by their size
_NUM_READERS = 4


def fingerprint(config: Config, data: RunData) -> dict[str, str]:
    """A digest for every input, by a name that a person understands."""
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    inputs = {f"documents of the {name} split": _digest_documents(documents) for name, documents in splits.items()}
    used = sorted({document.schema for documents in splits.values() for document in documents})
    inputs |= {f"schema {name}": _digest_file(Path(config.schemas) / f"{name}.yaml") for name in used}
    inputs |= prompt_digests(Path(config.prompt))
    inputs |= {"OCR engine": engine_version()} if config.ocr.mode != "none" else {}
    inputs |= {"traces": traces_digest(Path(config.sft.traces))} if config.sft.traces else {}
    inputs |= {"replayed rollouts": records_digest(Path(config.records.replay))} if config.records.replay else {}
    return inputs | _components(config) | base_policy_digests(config.model)


def check_inputs(folder: Path, stored: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Raise ConfigError, naming them, if inputs of the run in `folder` are not what they were when it started."""
    different = [name for name in sorted(stored.keys() | found.keys()) if stored.get(name) != found.get(name)]
    if different:
        what = {True: "was changed", False: "is gone"}
        told = [f"{name} {what[name in found] if name in stored else 'is new'}" for name in different]
        raise ConfigError(
            f"{folder}: the run started from other inputs: {', '.join(told)}. Put back what it started from "
            "(digests are in its inputs.json), or start a new run"
        )


def _digest_documents(documents: Iterable[Document]) -> str:
    digest = hashlib.sha256()
    for document in documents:
        content = asdict(document)
        del content["image_paths"]  # where pages lie; what they are, their sha256 says
        digest.update(json.dumps(content, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def prompt_digests(prompt: Path) -> dict[str, str]:
    """Digests of a prompt file, whatever its name, and of those of its languages, by the names that it calls them."""
    main, *others = prompt_files(prompt)
    return {"prompt": _digest_file(main)} | {f"prompt {path.name}": _digest_file(path) for path in others}


def _components(config: Config) -> dict[str, str]:
    """The user's own parts of the reward."""
    modules = sorted({component.function.partition(":")[0] for component in config.reward.components})
    files = {name: _source_of(name) for name in modules}
    return {f"reward component {name}": _digest_file(path) for name, path in files.items() if path}


def _source_of(module: str) -> Path | None:
    """The file of a module or package, found without importing anything: first from the current folder, as the actors
    find it. None if it has no file; the actor that cannot import it says so."""
    names, folders, origin = module.split("."), [str(Path.cwd()), *sys.path], None
    for index in range(len(names)):
        spec = PathFinder.find_spec(".".join(names[: index + 1]), folders)
        if spec is None:
            return None
        folders, origin = list(spec.submodule_search_locations or []), spec.origin
    return Path(origin) if origin and Path(origin).is_file() else None


def base_policy_digests(model: str) -> dict[str, str]:
    """Digests of a policy's files, or the commit of one on the hub."""
    folder = Path(model)
    if not folder.is_dir():
        return {"base policy": _hub_commit(model)}
    found = (path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path.relative_to(folder)))
    files = sorted(path for path in found if path != folder / MANIFEST)  # which only the best policy in its run has
    with ThreadPoolExecutor(_NUM_READERS) as readers:
        digests = list(readers.map(_digest_file, files))
    return {f"base policy {path.relative_to(folder)}": digest for path, digest in zip(files, digests, strict=True)}


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _hub_commit(model: str) -> str:
    """The commit of a model of the hub: snapshots lie in folders of that name."""
    from transformers.utils import cached_file

    return Path(cached_file(model, "config.json")).parent.name


def _digest_file(path: Path) -> str:
    size = path.stat().st_size
    if size > _SMALL_BYTES and path.suffix != ".safetensors":
        return f"{size} bytes"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
