# SPDX-License-Identifier: Apache-2.0
"""What kind of process this is: one that may train, or one that others start beside the training.

Since opentelemetry-instrumentation 0.63b0 every Python process that an instrumented one starts is instrumented, too
(https://github.com/open-telemetry/opentelemetry-python-contrib/pull/4469): workers of a data loader, the forkserver,
compile workers, launchers. None of them is to be measured, and there may be sixty of them a rank, so this has to be told
within a millisecond: from the command line alone, of which `sys.orig_argv` has every word when nothing else has run yet.

What is not in the table counts as training: a helper that is missed costs half a second and some series, a training that
is missed costs what it was instrumented for.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final, NamedTuple


class Role(NamedTuple):
    """A kind of process in which nothing is started of itself. Where several of the tests are given, one has to fit.

    Attributes:
        name: In words that go on from "this is".
        source: Where its command line is made.
        commands: Names of console scripts; a * at the end stands for any ending.
        modules: What ``-m`` names, likewise.
        files: Ends of the path of the script that is run.
        code: Beginnings of what ``-c`` runs.
        argument: One of the arguments, or with a = at its end its beginning, which is asked for besides; by itself, it is
            enough.
        may_train: Whether people train in such a process, too, and only they can tell.
    """

    name: str
    source: str
    commands: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    argument: str = ""
    may_train: bool = False


ROLES: Final = (
    Role(
        "a process that multiprocessing has spawned",
        "https://github.com/python/cpython/blob/3.14/Lib/multiprocessing/spawn.py",
        argument="--multiprocessing-fork",
        may_train=True,  # the ranks of torch.multiprocessing.spawn; the workers of a DataLoader look the same
    ),
    Role(
        "the forkserver of multiprocessing",
        "https://github.com/python/cpython/blob/3.14/Lib/multiprocessing/forkserver.py",
        code=("from multiprocessing.forkserver import main", "from multiprocess.forkserver import main"),
    ),
    Role(
        "the resource tracker of multiprocessing",
        "https://github.com/python/cpython/blob/3.14/Lib/multiprocessing/resource_tracker.py",
        code=(
            "from multiprocessing.resource_tracker import main",
            "from multiprocess.resource_tracker import main",
            "from loky.backend.resource_tracker import main",
            "from joblib.externals.loky.backend.resource_tracker import main",
        ),
    ),
    Role(
        "a worker of joblib's",
        "https://github.com/joblib/loky/blob/master/loky/backend/popen_loky_posix.py",
        modules=("joblib.externals.loky.backend.popen_loky_*", "loky.backend.popen_loky_*"),
        may_train=True,
    ),
    Role(
        "a compile worker of TorchInductor",
        "https://github.com/pytorch/pytorch/blob/v2.13.0/torch/_inductor/compile_worker/subproc_pool.py",
        modules=("torch._inductor.*", "torch._vendor.quack._compile_worker"),
        files=("torch/_inductor/compile_worker/__main__.py",),
    ),
    Role(
        "a process in which TorchInductor times kernels",
        "https://github.com/pytorch/pytorch/blob/v2.13.0/torch/_inductor/autotune_process.py",
        files=("torch/_inductor/__autotune_main__.py",),
    ),
    Role(
        "a look of TorchInductor at what this CPU can do",
        "https://github.com/pytorch/pytorch/blob/v2.13.0/torch/_inductor/cpu_vec_isa.py",
        # The second one until 2.12.
        code=(
            '\nimport sys\nif sys.platform != "linux":\n    import torch',
            "\nimport torch\nfrom ctypes import cdll\ncdll.LoadLibrary(",
        ),
    ),
    Role(
        "a launcher of PyTorch's",
        "https://github.com/pytorch/pytorch/blob/v2.13.0/torch/distributed/run.py",
        commands=("torchrun",),
        modules=("torch.distributed.run", "torch.distributed.launch", "torch.backends.xeon.run_cpu"),
    ),
    Role(
        "the launcher of Accelerate",
        "https://github.com/huggingface/accelerate/blob/main/src/accelerate/commands/launch.py",
        commands=("accelerate", "accelerate-*"),
        modules=("accelerate.commands.*",),
    ),
    Role(
        "a launcher of DeepSpeed's",
        "https://github.com/deepspeedai/DeepSpeed/blob/master/deepspeed/launcher/runner.py",
        commands=("deepspeed", "ds"),
        modules=("deepspeed.launcher.*",),
    ),
    Role(
        "the launcher of Horovod",  # horovod.runner.run_task runs a training function
        "https://github.com/horovod/horovod/blob/master/horovod/runner/launch.py",
        commands=("horovodrun",),
        modules=("horovod.runner.launch", "horovod.runner.task_fn"),
    ),
    Role(
        "the launcher of Lightning Fabric",
        "https://github.com/Lightning-AI/pytorch-lightning/blob/master/src/lightning/fabric/cli.py",
        commands=("fabric", "lightning"),
        modules=("lightning.fabric.cli", "lightning_fabric.cli"),
    ),
    Role(
        "the launcher of Composer",
        "https://github.com/mosaicml/composer/blob/main/composer/cli/launcher.py",
        commands=("composer",),
        modules=("composer.cli.*",),
    ),
    Role(
        "a daemon of Ray's",
        "https://github.com/ray-project/ray/blob/master/python/ray/_private/services.py",
        modules=("ray.util.client.server",),
        files=(
            "ray/dashboard/agent.py",
            "ray/dashboard/dashboard.py",
            "ray/autoscaler/_private/monitor.py",
            "ray/_private/log_monitor.py",
            "ray/_private/ray_process_reaper.py",
            "ray/_private/runtime_env/agent/main.py",
            "ray/_private/workers/setup_worker.py",
        ),
    ),
    Role(
        "a worker of Ray's that moves objects",  # those that run tasks and actors, and may train, have no such argument
        "https://github.com/ray-project/ray/blob/master/src/ray/raylet/worker_pool.cc",
        files=("ray/_private/workers/default_worker.py",),
        argument="--worker-type=",
    ),
    Role(
        "a command of Ray's",
        "https://github.com/ray-project/ray/blob/master/python/ray/scripts/scripts.py",
        commands=("ray",),
        modules=("ray.scripts.*",),
    ),
    Role(
        "a server of Jupyter's, or what runs notebooks",  # in kernels, which are processes of their own
        "https://github.com/jupyter/jupyter_core/blob/main/jupyter_core/command.py",
        commands=("jupyter", "jupyter-*", "jupyterhub", "jupyterhub-*", "papermill"),
        modules=(
            *("jupyter", "jupyter_core", "jupyter_server", "jupyterlab", "jupyterhub", "jupyterhub.*"),
            *("notebook", "nbclassic", "nbconvert", "papermill"),
        ),
    ),
    Role(
        "a command of the tracking of experiments",  # agents and projects start the training as a process of its own
        "https://github.com/wandb/wandb/blob/main/wandb/wandb_agent.py",
        commands=("wandb", "mlflow", "tensorboard"),
        modules=("wandb", "mlflow", "tensorboard.main"),
    ),
    Role(
        "a debugger's helper",
        "https://github.com/microsoft/debugpy/blob/main/src/debugpy/server/api.py",
        files=("debugpy/adapter", "debugpy/adapter/__main__.py", "debugpy/launcher", "debugpy/launcher/__main__.py"),
    ),
    Role(
        "an installer",
        "https://github.com/pypa/pip/blob/main/src/pip/_internal/build_env.py",
        commands=("pip", "pip3", "pip3.*"),
        modules=("pip", "ensurepip", "venv"),
        files=("pip/__main__.py", "pip/__pip-runner__.py", "pyproject_hooks/_in_process/_in_process.py"),
    ),
    Role(
        "a command of OpenTelemetry's",
        "https://github.com/open-telemetry/opentelemetry-python-contrib/tree/main/opentelemetry-instrumentation",
        commands=("opentelemetry-instrument", "opentelemetry-bootstrap", "otel-hwmetrics"),
        modules=("opentelemetry.instrumentation.bootstrap", "otel_hwmetrics.cli"),
    ),
)
"""Every kind that is known; the first that fits counts."""


class Program(NamedTuple):
    """What an interpreter was asked to run: one of these, or none of them for a prompt."""

    script: str = ""
    module: str = ""
    code: str = ""


def program_of(argv: Sequence[str]) -> Program:
    """Find the program behind the interpreter's own options (https://docs.python.org/3/using/cmdline.html)."""
    words = iter(argv[1:])
    for word in words:
        if word == "--":
            return Program(script=next(words, ""))
        if word == "-" or not word.startswith("-"):
            return Program(script=word)
        if word == "--check-hash-based-pycs":
            next(words, None)
        if word.startswith("--"):
            continue
        for place, letter in enumerate(word[1:], 2):
            if letter in "cmWX":  # these take the rest of the word, or the next one
                value = word[place:] or next(words, "")
                if letter in "cm":
                    return Program(code=value) if letter == "c" else Program(module=value)
                break
    return Program()


def role_of(argv: Sequence[str]) -> Role | None:
    """The kind of process that has this command line, `sys.orig_argv`; None where it may as well be a training."""
    program = program_of(argv)
    return next((role for role in ROLES if _fits(role, program, argv)), None)


def imports_main_again() -> bool:
    """Whether a spawned process is about to import its parent's main module, whose calls are nobody's wish here.

    multiprocessing knows by the same attribute that a process may not be started now
    (https://github.com/python/cpython/blob/3.14/Lib/multiprocessing/spawn.py, ``_check_not_importing_main``).
    """
    modules = (sys.modules.get(name) for name in ("multiprocessing.process", "multiprocess.process"))
    return any(module is not None and hasattr(module.current_process(), "_inheriting") for module in modules)


def _fits(role: Role, program: Program, argv: Sequence[str]) -> bool:
    if role.argument and not any(_is_argument(word, role.argument) for word in argv[1:]):
        return False
    script = program.script.replace("\\", "/").rstrip("/")
    return (
        not (role.commands or role.modules or role.files or role.code)
        or _listed(_command(script), role.commands)
        or _listed(program.module, role.modules)
        or (bool(script) and f"/{script}".endswith(tuple(f"/{file}" for file in role.files)))
        or (bool(program.code) and program.code.startswith(role.code))
    )


def _is_argument(word: str, argument: str) -> bool:
    return word.startswith(argument) if argument.endswith("=") else word == argument


def _command(script: str) -> str:
    """The name of a console script, as Windows' launchers are called, too; empty for a file of Python, as a training is."""
    name = script.rpartition("/")[2]
    name = name.removesuffix(".exe").removesuffix("-script.py").removesuffix("-script.pyw")
    return "" if name.endswith((".py", ".pyw")) else name


def _listed(name: str, patterns: Sequence[str]) -> bool:
    return bool(name) and any(
        name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern for pattern in patterns
    )
