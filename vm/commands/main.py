# SPDX-License-Identifier: GPL-2.0-only
"""What each verb does, and the one place where errors become a line and an exit status."""

from __future__ import annotations

import argparse
import errno
import platform
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from tests.utils.report.known import known
from tests.utils.report.waivers import parse as parse_waivers
from vm import paths
from vm.arch import PROCESSORS
from vm.backend.base import Machine
from vm.backend.choose import choose
from vm.commands import bench, coverage, shell, system_options
from vm.commands.arguments import parse
from vm.commands.check import check
from vm.commands.faults import Request as FaultsRequest
from vm.commands.faults import faults
from vm.commands.run import Request, launch
from vm.errors import Exit, Interrupted, Problem, for_bisect
from vm.kernel import cache, kconfig, source
from vm.process import signals_raise
from vm.report import record
from vm.run import plan, system
from vm.run.guest import Limits
from vm.run.plan import Options
from vm.terminal import complain, silence

#: Of guests with a complete system: MiB, processors (users have several), and seconds: systemd
#: takes its time where it is emulated.
_SYSTEM_MEMORY, _SYSTEM_CPUS = 2048, 2
_SYSTEM_LIMITS = Limits(boot=900.0, run=7200.0)
#: What a machine lacks or refuses, without the name of a file: the disk is full, no more processes.
_OF_THE_HOST = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM, errno.EIO),
    *(errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE),
)


def _kernels(arguments: argparse.Namespace) -> Exit:
    """Print what --kernel takes, one specification a line, or the record of a run on several, or
    clear the cache."""
    if arguments.record is not None:
        if arguments.suite or arguments.prune is not None:
            raise Problem(
                "kernels --record: neither with a suite nor with --prune\nhint: give it alone",
                Exit.USAGE,
            )
        print(*record.page(*record.read(arguments.record)), sep="\n")
        return Exit.OK
    if arguments.prune is not None:
        if arguments.suite:
            raise Problem(
                f"kernels {arguments.suite} --prune: what it removes is of all suites\n"
                "hint: give one of the two",
                Exit.USAGE,
            )
        for line in cache.prune(arguments.prune):
            print(line, flush=True)
        return Exit.OK
    for line in cache.listing():
        print(line)
    for spec in source.obtainable(arguments.suite) if arguments.suite else []:
        print(spec)
    return Exit.OK


def _waivers(file: Path) -> str:
    """The contents of *file*, once it is seen that pytest will take it in the guest."""
    try:
        data = file.read_bytes()
        parse_waivers(data)
    except (OSError, ValueError) as error:
        text = error.strerror if isinstance(error, OSError) else error
        raise Problem(f"--waive {file}: {text}", Exit.USAGE) from None
    return data.decode()


def _chosen(arguments: argparse.Namespace) -> list[str]:
    """Return pytest's arguments for --rule and --fixed-by, once it is seen that they name some."""
    checkout = getattr(arguments, "checkout", None) or paths.ROOT
    if wrong := known(checkout).missing(arguments.rule, arguments.fixed_by):
        raise Problem(wrong, Exit.USAGE)
    chosen = [f"--rule={rule}" for rule in arguments.rule]
    return chosen + [f"--fixed-by={commit}" for commit in arguments.fixed_by]


def _output(folder: Path | None) -> Path | None:
    """Return the absolute path of the folder for results, made if need be.

    :raises Problem: it cannot be.
    """
    if folder is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        text = "not a folder" if isinstance(error, FileExistsError) else error.strerror
        hint = "name a folder that is there, or that can be made"
        status = Exit.HOST if error.errno in _OF_THE_HOST else Exit.USAGE
        raise Problem(f"--output {folder}: {text}\nhint: {hint}", status) from None
    return folder.resolve()


def _run(arguments: argparse.Namespace, pytest: tuple[str, ...]) -> Exit:
    kernels = tuple(arguments.kernel or ["." if arguments.build else ""])
    if len(set(kernels)) < len(kernels):
        raise Problem(
            "--kernel: the same kernel twice\nhint: --repeat 2 runs its cases twice", Exit.USAGE
        )
    wish = coverage.wished(arguments, kernels)
    found = system_options.chosen(arguments)
    machine, limits = _machine(arguments), _limits(arguments)
    if found is not None:
        disk = (system.disk if arguments.dry_run else system.obtain)(found.suite)
        machine = replace(machine, disk=disk, measured=True)
    guests = arguments.guests or (
        1 if found is not None else plan.default_guests(pytest, len(kernels), machine.memory)
    )
    options = Options(
        pytest=(*pytest, *(["--require"] if arguments.require else []), *_chosen(arguments)),
        user=arguments.user,
        waivers=_waivers(arguments.waive) if arguments.waive else "",
        userland=PROCESSORS.get(arguments.userland),
        output=_output(arguments.output),
        machine=machine,
        limits=limits,
        system=found,
        guests=guests,
        jobs=arguments.jobs or plan.default_jobs(guests, machine),
        coverage=wish is not None,
        dry_run=arguments.dry_run,
        verbose=arguments.verbose,
    )
    for option, given in (
        ("--debug-kernel", arguments.debug_kernel),
        ("--kconfig", arguments.kconfig),
    ):
        if given and not arguments.build:
            raise Problem(f"{option} needs --build\nhint: it changes what is built", Exit.USAGE)
    for path in arguments.kconfig:
        kconfig.require_fragment(path)
    request = Request(
        kernels,
        arguments.backend,
        arguments.build,
        arguments.debug_kernel,
        tuple(arguments.kconfig),
        arguments.repeat,
        wish,
    )
    return launch(request, options)


def _shell(arguments: argparse.Namespace, words: tuple[str, ...]) -> int:
    if words:
        raise Problem(
            f"shell: takes no command after -- ({' '.join(words)})\n"
            "hint: type it at the prompt, or pipe it in",
            Exit.USAGE,
        )
    script = shell.asked_for()
    with ExitStack() as stack:
        kernel, backend = choose(
            arguments.kernel or "", arguments.backend, None, stack, _machine(arguments)
        )
        return shell.run(kernel, backend, _options(arguments), script)


def _options(arguments: argparse.Namespace) -> Options:
    """What all verbs that boot a kernel are asked."""
    return Options(
        user=arguments.user,
        machine=_machine(arguments),
        limits=_limits(arguments),
        userland=PROCESSORS.get(arguments.userland),
    )


def _machine(arguments: argparse.Namespace) -> Machine:
    whole = getattr(arguments, "system", None) is not None
    append = tuple(" ".join(arguments.append).split())
    qemu = tuple(word for text in arguments.qemu_args for word in text)
    memory = arguments.memory or (_SYSTEM_MEMORY if whole else None)
    cpus = arguments.cpus or (_SYSTEM_CPUS if whole else 1)
    return Machine(memory, cpus, append=append, qemu_args=qemu)


def _limits(arguments: argparse.Namespace) -> Limits:
    default = _SYSTEM_LIMITS if getattr(arguments, "system", None) is not None else Limits()
    run = getattr(arguments, "run_limit", None)  # a shell has none
    return Limits(arguments.boot_limit or default.boot, run or default.run)


def _bench(arguments: argparse.Namespace, words: tuple[str, ...]) -> Exit:
    bench.require(words)
    kernels = arguments.kernel or [""]
    request = bench.comparison(len(kernels), arguments.boots, arguments.worse_than, words)
    options = replace(_options(arguments), output=_output(arguments.output))
    with ExitStack() as stack:
        chosen = [
            choose(kernel, arguments.backend, None, stack, options.machine) for kernel in kernels
        ]
        if request is not None:
            return bench.compare(chosen, options, request)
        return bench.run(*chosen[0], options, words)


def _faults(arguments: argparse.Namespace, words: tuple[str, ...]) -> Exit:
    if words:
        raise Problem(
            f"faults: takes nothing after -- ({' '.join(words)})\n"
            "hint: name faults, families or kinds before it",
            Exit.USAGE,
        )
    for path in arguments.kconfig:
        kconfig.require_fragment(path)
    return faults(
        FaultsRequest(
            arguments.kernel or "",
            tuple(arguments.fault),
            arguments.jobs,
            _output(arguments.output),
            arguments.page,
            tuple(arguments.kconfig),
            arguments.fresh,
            arguments.list,
            arguments.report,
        )
    )


def _split(words: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """(the launcher's words, pytest's words after the first `--`)."""
    given = list(words)
    if "--" in given:
        at = given.index("--")
        return given[:at], tuple(given[at + 1 :])
    return given, ()


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line *words*; the exit status."""
    own, pytest = _split(sys.argv[1:] if words is None else words)
    if not own or (own[0].startswith("-") and own[0] not in ("-h", "--help")):
        own.insert(0, "run")
    status = _status(own, pytest)
    return int(for_bisect(status) if any(map(_means_build, own)) else status)


def _means_build(word: str) -> bool:
    """Whether *word* is --build, or was meant to be: `git bisect run` calls a commit bad for most
    statuses of a mistake."""
    return len(word) > len("--b") and "--build".startswith(word)


def _status(own: Sequence[str], pytest: tuple[str, ...]) -> int:
    try:
        arguments = parse(own)
        with signals_raise():
            match arguments.verb:
                case "bench":
                    return _bench(arguments, pytest)
                case "check":
                    return check(pytest)
                case "shell":
                    return _shell(arguments, pytest)
                case "kernels":
                    return _kernels(arguments)
                case "faults":
                    return _faults(arguments, pytest)
                case _:
                    return _run(arguments, pytest)
    except SystemExit as end:  # argparse has said what is wrong, or given its help
        return int(end.code or 0)
    except Problem as problem:
        complain(str(problem))
        return problem.status
    except Interrupted as signal:
        complain(f"interrupted ({signal})")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        silence(1)  # nobody reads
        return Exit.HOST
    except OSError as error:
        if not error.filename and error.errno not in _OF_THE_HOST:
            return _internal_error()
        if "-v" in own or "--verbose" in own:
            traceback.print_exc()
        where = error.filename or f"one of {tempfile.gettempdir()}, the cache, the artefacts"
        complain(f"{error.strerror}: {where}")
        return Exit.HOST
    except Exception:
        return _internal_error()


def _internal_error() -> Exit:
    """A fault of the launcher's own: not 1, which Python would exit with and which blames the
    kernel."""
    traceback.print_exc()
    complain(
        f"Python {platform.python_version()}, {platform.platform()}: this is an error of the"
        " launcher\nhint: please report it with the lines above"
    )
    return Exit.HOST
