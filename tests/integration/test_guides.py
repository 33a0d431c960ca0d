"""Every command of README and guides is executed to the letter, each in a workspace of its own that has what it names.

What a test machine cannot do is in one table with the reason, or with the test that does it.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from commands_of_pages import PAGES, commands, whole_path, words
from medvie_rl.cli import build_parser
from medvie_rl.data.store import Document, open_split
from runs import ROOT

_SECONDS = 900  # of one command
pytestmark = [pytest.mark.full, pytest.mark.timeout(_SECONDS + 60)]

_NO_CLUSTER = "there is no cluster here"
NOT_EXECUTED = {
    "make test": "these tests are part of it",
    'ray job submit --address http://HEAD:8265 --working-dir . -- exec python -m medvie_rl train --config '
    'conf/qwen2_5_vl_7b.yaml data.path=/shared/my_documents output_dir=/shared/runs '
    'model=/shared/models/Qwen2.5-VL-7B-Instruct': "with the embedded policy: "
    "tests/integration/test_job_submit.py::test_a_submitted_job_equals_the_direct_run",
    "ray job submit --address http://HEAD:8265 --working-dir . -- python -m medvie_rl doctor --config "
    "conf/qwen2_5_vl_7b.yaml": "on a cluster without GPUs: "
    "tests/integration/test_doctor.py::test_a_cluster_has_what_a_configuration_takes_or_not",
    "docker build -f cluster/Dockerfile -t registry.example/medvie-rl:0.1.0 .": "there is no docker; its file: "
    "tests/unit/test_job_files.py::test_hadolint_finds_nothing_in_the_dockerfile",
    "docker push registry.example/medvie-rl:0.1.0": "there is no docker, and no registry",
    "kubectl apply -f cluster/rayjob.yaml": f"{_NO_CLUSTER}; its file: "
    "tests/unit/test_job_files.py::test_the_ray_job_has_only_fields_that_kuberay_knows_with_values_of_their_types",
    "kubectl logs --follow --selector job-name=medvie-train": _NO_CLUSTER,
    "kubectl get rayjob medvie-train -o jsonpath='{.status.jobId}'": _NO_CLUSTER,
    "sbatch cluster/slurm.sh /shared/runs/first conf/qwen2_5_vl_7b.yaml data.path=/shared/my_documents "
    "model=/shared/models/Qwen2.5-VL-7B-Instruct": f"{_NO_CLUSTER}; the script: "
    "tests/unit/test_slurm_script.py::test_the_head_comes_first_then_the_workers_then_the_job",
    "sbatch --nodes=2 --time=08:00:00 cluster/slurm.sh RUN_DIR CONFIG": f"{_NO_CLUSTER}; the script: "
    "tests/unit/test_slurm_script.py::test_the_head_comes_first_then_the_workers_then_the_job",
    "ray up cluster/launcher.yaml": f"{_NO_CLUSTER}; its file: "
    "tests/unit/test_job_files.py::test_the_launcher_file_follows_rays_own_schema",
    "ray dashboard cluster/launcher.yaml": _NO_CLUSTER,
    "ray down cluster/launcher.yaml": _NO_CLUSTER,
    "wandb sync runs/RUN/wandb/latest-run": "it needs W&B's server; what it sends: "
    "tests/integration/test_tracking.py::test_what_a_client_held_that_a_signal_ended_is_shown_by_the_next",
    "medvie train --resume runs/RUN": "tests/integration/test_resume.py::"
    "test_a_flipped_byte_costs_the_newest_checkpoint_only",
    "medvie train --resume runs/RUN learner.num_ranks=4": "with two: "
    "tests/integration/test_resume.py::test_a_run_goes_on_in_another_layout",
    "medvie train --config FILE --resume-if-exists runs/NAME": "tests/integration/test_kill.py::"
    "test_a_killed_run_ends_with_the_numbers_of_an_uninterrupted_one",
    "medvie train --config runs/RUN/config.yaml --replay runs/RUN": "tests/integration/test_replay.py::"
    "test_a_replay_learns_the_same_to_the_bit",
} | dict.fromkeys(
    (command for command in whole_path() if command in commands(ROOT / "README.md")),
    "tests/integration/test_readme.py::test_a_newcomer_gets_from_a_folder_to_a_service",
)  # fmt: skip
SERVED = (
    "medvie serve --policy runs/RUN/best",
    "curl -F file=@slip.png -F schema=visit_slip http://127.0.0.1:8000/extract",
)

_SMALL_RUN = (
    "queries_per_step=4 num_traces=3 evaluation.bootstrap_samples=50 rollout.num_workers=1 rollout.num_threads=2 "
    "learner.num_ranks=1 learner.num_threads=2"
)
# What stands behind a command so that it takes seconds, or starts nothing that is not here.
BEHIND = {
    "medvie train --config conf/local.yaml data.path=data/my_documents num_steps=3 rollout.max_model_len=1024 "
    "rollout.max_response_tokens=256": _SMALL_RUN,
    "medvie sft --config conf/local.yaml": f"data.path=data/my_documents num_steps=2 {_SMALL_RUN}",
    "medvie train --config conf/qwen2_5_vl_7b.yaml data.path=data/my_documents": "--dry-run",
    "medvie sft --config conf/qwen2_5_vl_7b.yaml data.path=data/my_documents": "--dry-run",
    "make train-local": "--dry-run",
    "make submit ADDRESS=http://127.0.0.1:8265 CONFIG=conf/qwen2_5_vl_7b.yaml "
    'ARGS="data.path=/shared/my_documents output_dir=/shared/runs model=/shared/models/Qwen2.5-VL-7B-Instruct"':
    "--dry-run",
    "make submit CONFIG=conf/qwen2_5_vl_7b.yaml "
    'ARGS="data.path=/shared/my_documents output_dir=/shared/runs"': "--dry-run",
    "medvie eval data/my_documents --system rl=runs/RUN/best --system direct=runs/RUN/best:direct --system ocr --out "
    "evaluation": "--resamples 100",
    "medvie eval medvie_rl/nano/slips --limit 20 --out evaluation --system base=medvie_rl/nano/policy --system "
    "direct=medvie_rl/nano/policy:direct --system ocr": "--limit 3 --resamples 100",
    "medvie eval data/my_documents --split test --out evaluation --system base=models/Qwen2.5-VL-7B-Instruct --system "
    "sft=runs/SFT_RUN/best --system rl=runs/RUN/best --system ocr": "--resamples 100",
    "medvie data synth --kind all --language en,de --num 100,20,20 --out data/synthetic --preview sheet.png":
    "--num 20,1,1",
    "medvie study headline --config conf/study.yaml --jobs 2": "--dry-run",
    "medvie study headline --config conf/qwen2_5_vl_7b.yaml data.path=data/mine": "--dry-run",
    "medvie study headline --config conf/qwen2_5_vl_7b.yaml data.path=data/my_documents": "--dry-run",
    "medvie rollouts runs/RUN --step 12": "--step 2",
    "medvie serve --policy runs/RUN/best": f"--seconds {_SECONDS}",  # the machine may have other work
    "medvie scale --config FILE --gpu A100-80 --network 25 --policies Qwen/Qwen2.5-VL-32B-Instruct --gpus 16,32":
    "--config conf/qwen2_5_vl_7b.yaml",
}  # fmt: skip

EVERY = list(dict.fromkeys(command for page in PAGES for command in commands(page)))
EXECUTED = [command for command in EVERY if command not in NOT_EXECUTED and command not in SERVED]
# These end with the next command to type.
HAVE_NEXT = tuple(
    f"medvie {name} "
    for name in (
        "train", "sft", "report", "eval", "export", "extract", "calibrate", "data import", "data select", "data synth",
    )
)  # fmt: skip


def test_the_tables_name_commands_of_the_pages_and_tests_that_are_there() -> None:
    gone = {*NOT_EXECUTED, *SERVED, *BEHIND} - set(EVERY)
    assert not gone, "no page has these any more"
    assert not BEHIND.keys() & NOT_EXECUTED.keys()
    for reason in NOT_EXECUTED.values():
        for file, test in re.findall(r"(tests/\S+\.py)::(\w+)", reason):
            assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), reason


# --- the workspace ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a clone of the repository in which somebody has worked: whatever the guides name is there."""
    folder = tmp_path_factory.mktemp("guides") / "workspace"
    folder.mkdir()
    for name in (
        "Makefile",
        "cluster",
        "constraints.txt",
        "learner",
        "medvie_rl",
        "pyproject.toml",
        "rewards",
        "rollout",
    ):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "conf", folder / "conf")
    schema = yaml.safe_load((ROOT / "conf/schemas/visit_slip.yaml").read_text(encoding="utf-8"))
    (folder / "my_schemas").mkdir()
    for place in (folder / "conf/schemas", folder / "my_schemas"):
        (place / "my_schema.yaml").write_text(yaml.safe_dump(schema | {"name": "my_schema"}), encoding="utf-8")
    _write_documents(folder)
    (folder / "SOURCE").symlink_to("my_documents")
    (folder / "FILE_OR_FOLDER").symlink_to("my_schemas")
    execute("medvie data import my_documents --schema conf/schemas/my_schema.yaml --out data/my_documents", folder)
    execute("medvie data select data/my_documents --num 3 --features light --out data/chosen", folder)
    tasks = "--format label-studio --schema conf/schemas/my_schema.yaml --out for_label_studio"
    execute(f"medvie data export data/my_documents --split train --split validation {tasks}", folder)
    (folder / "for_label_studio/tasks.json").rename(folder / "for_label_studio/export.json")
    (folder / "data/annotated").symlink_to("my_documents")
    run = f"data.path=data/my_documents num_steps=3 evaluation.every=1 checkpoint.every=3 {_SMALL_RUN}"
    execute(f"medvie train --config conf/local.yaml --resume-if-exists runs/RUN {run}", folder)
    (folder / "runs/SFT_RUN").symlink_to("RUN")
    (folder / "models").mkdir()
    (folder / "models/Qwen2.5-VL-7B-Instruct").symlink_to(ROOT / "medvie_rl/nano/policy")
    return folder


def _write_documents(folder: Path) -> None:
    """Visit slips as somebody would have them, some of them not annotated, and predictions for those of the test."""
    (folder / "my_documents/images").mkdir(parents=True)
    (folder / "scans").mkdir()
    lines: list[dict[str, Any]] = []
    for split, num in (("train", 12), ("validation", 12), ("test", 9)):
        slips = open_split(ROOT / "medvie_rl/nano/slips", split)
        visits = [document for document in slips if document.schema == "visit_slip"][:num]
        for document in visits:
            lines.append(_line(f"visit-{len(lines):03}", split, document))
            content = next(iter(slips.images(document).values()))
            (folder / "my_documents" / lines[-1]["image"]).write_bytes(content)
    annotated, pool = lines[:-4], [{"id": line["id"], "image": line["image"]} for line in lines[-4:]]
    _write_lines(folder / "my_documents/annotations.jsonl", [*annotated, *pool])
    for line in pool[:3]:
        shutil.copy(folder / "my_documents" / line["image"], folder / "scans")
    shutil.copy(folder / "my_documents" / pool[3]["image"], folder / "slip.png")
    test = annotated[-5:]
    half = [line | {"fields": dict(list(line["fields"].items())[::2])} for line in test]
    (folder / "evaluation/predictions").mkdir(parents=True)
    for name in ("annotations", "new", "evaluation/annotations", "evaluation/predictions/ocr"):
        _write_lines(folder / f"{name}.jsonl", test)
    for name in ("predictions", "old", "evaluation/predictions/base"):
        _write_lines(folder / f"{name}.jsonl", half)


def _line(name: str, split: str, document: Document) -> dict[str, Any]:
    image = f"images/{name}.png"
    return {"id": name, "image": image, "document_type": "visit_slip", "split": split, "fields": document.annotation}


def _write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


@pytest.fixture
def workspace(prepared: Path, tmp_path: Path) -> Iterator[Path]:
    """One for a single command. Files are links: nothing but logs and the like is written in place."""
    yield shutil.copytree(prepared, tmp_path / "workspace", symlinks=True, copy_function=os.link)
    shutil.rmtree(tmp_path / "workspace")


# --- the commands -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", EXECUTED, ids=lambda command: command[:70])
def test_a_command_does_what_it_says(command: str, workspace: Path) -> None:
    options = _options(command)
    outputs = [Path(".ray/auth_token")] if command.startswith("ray ") else _outputs(options)
    for path in (workspace / output for output in outputs):
        _remove(path)
    before = set((workspace / "runs").iterdir())
    whole = f"{command} {BEHIND[command]}" if command in BEHIND else command
    result = execute(whole, workspace, code=None)
    told = f"{whole}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    assert result.returncode == _expected_code(options, workspace, result), told
    if "--dry-run" in whole:
        _check_commands_within(result.stdout)
        return
    for output in outputs:
        assert (workspace / output).exists(), f"{output} is missing: {told}"
    if command.startswith(("medvie train", "medvie sft")):
        (made,) = set((workspace / "runs").iterdir()) - before
        assert (made / "summary.json").is_file()
    if command.startswith(HAVE_NEXT):
        (following,) = re.findall(r"next: medvie (.*)", result.stdout + result.stderr)
        build_parser().parse_args(shlex.split(following))


@pytest.mark.skipif(shutil.which("curl") is None, reason="the guide's client is curl")
def test_the_service_answers_the_guides_client(workspace: Path) -> None:
    serve, client = SERVED
    with subprocess.Popen(shlex.split(f"{serve} {BEHIND[serve]}"), cwd=workspace, env=_environment()) as service:
        try:
            deadline = time.monotonic() + _SECONDS
            while subprocess.run(["curl", "-sf", "http://127.0.0.1:8000/readyz"], check=False).returncode:
                assert service.poll() is None and time.monotonic() < deadline
                time.sleep(0.5)
            answer = json.loads(execute(client, workspace).stdout)
        finally:
            service.send_signal(signal.SIGTERM)
    assert "documents" in answer, answer
    (document,) = answer["documents"]
    assert document["status"] == "ok" and {"patient", "date"} <= document["confidence"].keys()


def execute(command: str, folder: Path, *, code: int | None = 0) -> "subprocess.CompletedProcess[str]":
    """Run a line as a shell does; it must end with the code, unless that is None."""
    result = subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False,
        env=_environment() | ({"HOME": str(folder)} if command.startswith("ray ") else {}),  # it keeps its token there
    )  # fmt: skip
    assert code is None or result.returncode == code, f"{command}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    return result


def _environment() -> dict[str, str]:
    """That of somebody who has activated the environment."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def _options(command: str) -> Any:
    """What a `medvie` command is asked for; nothing of another program."""
    if not command.startswith("medvie "):
        return SimpleNamespace()
    return build_parser().parse_known_args(words(command))[0]


def _outputs(options: Any) -> list[Path]:
    """The files and folders that a command says it will write."""
    named = [getattr(options, name, None) for name in ("out", "json", "csv", "html", "preview")]
    outputs = [path for path in named if isinstance(path, Path)]
    if hasattr(options, "max_error"):
        outputs += [options.policy / name for name in ("calibration.json", "calibration.png")]
    if hasattr(options, "redact") and options.out is None:
        outputs.append(options.run / "report.html")
    return outputs


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _expected_code(options: Any, workspace: Path, result: "subprocess.CompletedProcess[str]") -> int:
    """What the exit codes mean: see docs/commands.md."""
    if hasattr(options, "quick"):  # doctor
        return int(any(line.startswith("fail") for line in result.stdout.splitlines()))
    if hasattr(options, "review_below"):  # extract
        lines = (workspace / options.out).read_text(encoding="utf-8").splitlines()
        return 3 if any(json.loads(line)["status"] != "ok" for line in lines) else 0
    return 3 if "rejected: " in result.stderr else 0


def _check_commands_within(output: str) -> None:
    """Commands of ours that a program says it would run."""
    for line in output.splitlines():
        if found := re.search(r"(?:bin/medvie|-m medvie_rl) (train .*)", line):
            options, rest = build_parser().parse_known_args(shlex.split(found[1]))
            assert all("=" in word and hasattr(options, "overrides") for word in rest), line
