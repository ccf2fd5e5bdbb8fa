# SPDX-License-Identifier: Apache-2.0
"""Every kind of process by a command line of its own, as it was seen or as its source makes it."""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import sys
from multiprocessing.connection import Connection

import pytest

from otel_hwmetrics.roles import ROLES, Program, imports_main_again, program_of, role_of

PYTHON = "/opt/conda/bin/python3.12"
SITE = "/opt/conda/lib/python3.12/site-packages"
WORKER = [PYTHON, f"{SITE}/ray/_private/workers/default_worker.py", "--node-ip-address=10.0.0.4"]
PROBE = '\nimport sys\nif sys.platform != "linux":\n    import torch  # noqa: F401\nfrom ctypes import cdll\n'

BESIDE_THE_TRAINING = {
    "spawned": (
        "a process that multiprocessing has spawned",
        [
            PYTHON,
            "-X",
            "frozen_modules=off",
            "-c",
            "from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5, pipe_handle=7)",
            "--multiprocessing-fork",
        ],
    ),
    "spawned, frozen": (
        "a process that multiprocessing has spawned",
        ["/opt/train/train", "--multiprocessing-fork", "tracker_fd=5", "pipe_handle=7"],
    ),
    "spawned, by pathos": (
        "a process that multiprocessing has spawned",
        [PYTHON, "-c", "from multiprocess.spawn import spawn_main; spawn_main(5, 7)", "--multiprocessing-fork"],
    ),
    "forkserver": (
        "the forkserver of multiprocessing",
        [
            PYTHON,
            "-c",
            "from multiprocessing.forkserver import main; main(5, 6, ['__main__'], **{'main_path': 'a.py'})",
        ],
    ),
    "resource tracker": (
        "the resource tracker of multiprocessing",
        [PYTHON, "-I", "-c", "from multiprocessing.resource_tracker import main;main(4)"],
    ),
    "resource tracker, of loky": (
        "the resource tracker of multiprocessing",
        [PYTHON, "-c", "from joblib.externals.loky.backend.resource_tracker import main; main(4, False)"],
    ),
    "loky": (
        "a worker of joblib's",
        [
            PYTHON,
            "-m",
            "joblib.externals.loky.backend.popen_loky_posix",
            "--process-name",
            "LokyProcess-1",
            "--pipe",
            "21",
        ],
    ),
    "inductor": (
        "a compile worker of TorchInductor",
        [
            PYTHON,
            f"{SITE}/torch/_inductor/compile_worker/__main__.py",
            "--pickler=torch._inductor.compile_worker.subproc_pool.SubprocPickler",
            *(
                "--kind=fork",
                "--workers=22",
                "--parent=97597",
                "--read-fd=45",
                "--write-fd=48",
                "--torch-key=H4QweOk00=",
            ),
        ],
    ),
    "inductor, quack": (
        "a compile worker of TorchInductor",
        [PYTHON, "-m", "torch._vendor.quack._compile_worker"],
    ),
    "inductor, autotune": (
        "a process in which TorchInductor times kernels",
        [PYTHON, f"{SITE}/torch/_inductor/__autotune_main__.py", "--parent=7", "--read-fd=45", "--write-fd=48"],
    ),
    "inductor, probe": ("a look of TorchInductor at what this CPU can do", [PYTHON, "-c", PROBE]),
    "torchrun": (
        "a launcher of PyTorch's",
        [PYTHON, "/opt/conda/bin/torchrun", "--nproc-per-node", "8", "train.py", "--lr", "0.1"],
    ),
    "torchrun, Windows": (
        "a launcher of PyTorch's",
        ["C:\\conda\\python.exe", "C:\\conda\\Scripts\\torchrun.exe", "--nproc-per-node=2", "train.py"],
    ),
    "torchrun, by its module": (
        "a launcher of PyTorch's",
        [PYTHON, "-u", "-m", "torch.distributed.run", "--nproc_per_node=4", "-m", "my.train"],
    ),
    "torch.distributed.launch": (
        "a launcher of PyTorch's",
        [PYTHON, "-mtorch.distributed.launch", "--nproc_per_node=4", "train.py"],
    ),
    "accelerate": ("the launcher of Accelerate", [PYTHON, "/opt/conda/bin/accelerate", "launch", "train.py"]),
    "accelerate-launch": ("the launcher of Accelerate", [PYTHON, "/opt/conda/bin/accelerate-launch", "train.py"]),
    "accelerate, by its module": (
        "the launcher of Accelerate",
        [PYTHON, "-m", "accelerate.commands.launch", "train.py"],
    ),
    "deepspeed": ("a launcher of DeepSpeed's", [PYTHON, "/opt/conda/bin/deepspeed", "--num_gpus=8", "train.py"]),
    "deepspeed, on each node": (
        "a launcher of DeepSpeed's",
        [PYTHON, "-u", "-m", "deepspeed.launcher.launch", "--world_info=eyJsb2NhbGhvc3QiOiBbMF19", "train.py"],
    ),
    "horovodrun": (
        "the launcher of Horovod",
        [PYTHON, "/opt/conda/bin/horovodrun", "-np", "4", "python", "train.py"],
    ),
    "fabric": (
        "the launcher of Lightning Fabric",
        [PYTHON, "/opt/conda/bin/fabric", "run", "--devices=8", "train.py"],
    ),
    "composer": ("the launcher of Composer", [PYTHON, "/opt/conda/bin/composer", "-n", "8", "train.py"]),
    "ray start": ("a command of Ray's", [PYTHON, "/opt/conda/bin/ray", "start", "--head", "--block"]),
    "ray, dashboard": (
        "a daemon of Ray's",
        [PYTHON, f"{SITE}/ray/dashboard/dashboard.py", "--host=127.0.0.1", "--port=8265"],
    ),
    "ray, agent": ("a daemon of Ray's", [PYTHON, "-u", f"{SITE}/ray/dashboard/agent.py", "--node-ip-address=10.0.0.4"]),
    "ray, log monitor": (
        "a daemon of Ray's",
        [PYTHON, "-u", f"{SITE}/ray/_private/log_monitor.py", "--logs-dir=/tmp/ray/session_1/logs"],
    ),
    "ray, runtime environments": (
        "a daemon of Ray's",
        [PYTHON, "-u", f"{SITE}/ray/_private/runtime_env/agent/main.py", "--node-ip-address=10.0.0.4"],
    ),
    "ray, spilling": ("a worker of Ray's that moves objects", [*WORKER, "--worker-type=SPILL_WORKER"]),
    "jupyter lab": (
        "a server of Jupyter's, or what runs notebooks",
        [PYTHON, "/opt/conda/bin/jupyter-lab", "--no-browser"],
    ),
    "jupyter, by its module": (
        "a server of Jupyter's, or what runs notebooks",
        [PYTHON, "-m", "jupyterlab", "--ip=0.0.0.0"],
    ),
    "jupyterhub": (
        "a server of Jupyter's, or what runs notebooks",
        [PYTHON, "/opt/conda/bin/jupyterhub-singleuser", "--port=8888"],
    ),
    "wandb agent": (
        "a command of the tracking of experiments",
        [PYTHON, "/opt/conda/bin/wandb", "agent", "team/project/1a2b3c"],
    ),
    "debugpy": ("a debugger's helper", [PYTHON, f"{SITE}/debugpy/adapter", "--for-server", "37219"]),
    "pip": ("an installer", ["/usr/bin/python3", "-m", "pip", "install", "torch"]),
    "pip, as torch.utils.collect_env has it": ("an installer", [PYTHON, "-mpip", "list", "--format=freeze"]),
    "pip, its command": ("an installer", [PYTHON, "/opt/conda/bin/pip3.12", "install", "torch"]),
    "pip, to build": ("an installer", [PYTHON, f"{SITE}/pip/__pip-runner__.py", "install", "--ignore-installed"]),
    "opentelemetry-instrument": (
        "a command of OpenTelemetry's",
        [PYTHON, "/opt/conda/bin/opentelemetry-instrument", "python", "train.py"],
    ),
    "our own": ("a command of OpenTelemetry's", [PYTHON, "/opt/conda/bin/otel-hwmetrics", "tables", "rules"]),
}

MAY_TRAIN = {
    "a script": [PYTHON, "train.py", "--multi", "--model", "torchrun"],
    "a module": [PYTHON, "-u", "-W", "ignore", "-m", "my.train"],
    "code": [PYTHON, "-c", "import train; train.main()"],
    "a rank of torchrun's": [PYTHON, "-u", "train.py", "--local-rank=0"],
    "a rank of DeepSpeed's": [PYTHON, "-u", "train.py", "--local_rank=0", "--deepspeed"],
    "a function of Horovod's": [PYTHON, "-m", "horovod.runner.run_task", "127.0.0.1", "39001"],
    "a task or actor of Ray's": WORKER,
    "a kernel of Jupyter's": [
        PYTHON,
        "-m",
        "ipykernel_launcher",
        "-f",
        "/root/.local/share/jupyter/runtime/kernel-1.json",
    ],
    "a job of submitit's": [PYTHON, "-u", "-m", "submitit.core._submit", "/home/me/log"],
    "under a debugger": [PYTHON, f"{SITE}/debugpy", "--connect", "127.0.0.1:5678", "train.py"],
    "a worker of pytest-xdist": [PYTHON, "-u", "-c", "import sys;exec(eval(sys.stdin.readline()))"],
    "a script that is called like a launcher": [PYTHON, "/home/me/ray.py"],
    "a script that begins like a launcher": [PYTHON, "accelerate-finetune.py"],
    "a script that begins like a server": [PYTHON, "src/jupyter-style-lm.py"],
    "a script with an option of that name": [PYTHON, "run.py", "--multiprocessing-forkserver=1"],
    "a folder that is called like a launcher": [PYTHON, "/home/me/pip/train.py"],
    "a package that is called like a launcher": [PYTHON, "-m", "notebook.train"],
    "a prompt": [PYTHON],
    "standard input": [PYTHON, "-"],
    "embedded": [],
}


@pytest.mark.parametrize("case", BESIDE_THE_TRAINING)
def test_what_stands_beside_the_training_is_recognised(case: str) -> None:
    """By its command line alone, on whatever system."""
    name, argv = BESIDE_THE_TRAINING[case]
    role = role_of(argv)
    assert role is not None
    assert role.name == name


@pytest.mark.parametrize("case", MAY_TRAIN)
def test_what_may_train_is_not_taken_for_a_helper(case: str) -> None:
    """A training that is not measured is worse than a helper that is."""
    assert role_of(MAY_TRAIN[case]) is None


def test_every_row_has_a_command_line_here_and_its_source() -> None:
    """The set, not a sample of it."""
    assert {role.name for role in ROLES} == {name for name, _ in BESIDE_THE_TRAINING.values()}
    assert all(role.source.startswith("https://github.com/") for role in ROLES)
    assert len({role.name for role in ROLES}) == len(ROLES)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("train.py -c 5", Program(script="train.py")),
        ("-u -B train.py", Program(script="train.py")),
        ("-X dev -W error::UserWarning train.py", Program(script="train.py")),
        ("-Xdev -Werror train.py", Program(script="train.py")),
        ("-IBc pass -m no", Program(code="pass")),
        ("-cpass", Program(code="pass")),
        ("-um pkg.train x", Program(module="pkg.train")),
        ("--check-hash-based-pycs always train.py", Program(script="train.py")),
        ("--help-env", Program()),
        ("-- -train.py", Program(script="-train.py")),
        ("-i", Program()),
        ("-c", Program()),
    ],
)
def test_the_program_is_found_behind_the_options_of_the_interpreter(words: str, expected: Program) -> None:
    """As Python's own reading of its command line has it."""
    assert program_of(["python", *words.split()]) == expected


def test_this_process_is_none_of_them() -> None:
    """Tests train, too; and nothing is imported again here."""
    assert role_of(sys.orig_argv) is None
    assert not imports_main_again()


def test_the_import_of_the_main_module_is_known_from_the_call_of_the_function() -> None:
    """In the very words of multiprocessing, whose own flag it is."""
    process = multiprocessing.process.current_process()
    process._inheriting = True  # type: ignore[attr-defined] # as multiprocessing.spawn._main does
    try:
        assert imports_main_again()
    finally:
        del process._inheriting  # type: ignore[attr-defined]
    assert not imports_main_again()


def _tell(end: Connection) -> None:
    role = role_of(sys.orig_argv)
    end.send((role.name if role else None, imports_main_again()))


def test_a_real_spawned_process_is_one() -> None:
    """What this very Python makes of it; its function is no import any more."""
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_tell, args=(theirs,))
    child.start()
    assert ours.poll(60)
    assert ours.recv() == ("a process that multiprocessing has spawned", False)
    child.join(60)
