# SPDX-License-Identifier: GPL-2.0-only
"""A tree to build for a run, with a make and a QEMU that are scripts."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness.helpers.images import CONFIGS, a_source
from tests.harness.helpers.launcher import Launcher, make_launcher
from vm import paths

#: Plays make: a kconfig that has no option FUSE_FS and knows no dependencies, and a compiler.
MAKE = r"""#!{python}
import json, os, shutil, signal, subprocess, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from vm.kernel import kconfig

words = sys.argv[1:]
settings = dict(word.split("=", 1) for word in words if "=" in word)
source, target = Path(words[words.index("-C") + 1]), words[-1]
output = Path(settings.get("O", source))
config = output / settings["KCONFIG_CONFIG"]
compiler = os.path.realpath(shutil.which(os.environ.get("CROSS_COMPILE", "") + "gcc") or "")
with open({folder!r} + "/calls", "a") as file:
    print(json.dumps([words, compiler, dict(os.environ)]), file=file)
play = os.environ["MAKE_PLAYS"]
if target == "defconfig" or target.endswith("_defconfig"):
    config.write_text("CONFIG_X86=y\nCONFIG_BY_DEFAULT=y\n")
elif target == "olddefconfig":
    found = kconfig.options(config.read_text())
    found.pop("FUSE_FS", None)
    lines = (f"# CONFIG_{{k}} is not set" if v == "n" else f"CONFIG_{{k}}={{v}}"
             for k, v in sorted(found.items()))
    config.write_text("\n".join(lines) + "\n")
elif play == "broken source":
    print("  CC      fs/namei.o", flush=True)
    print("fs/namespace.c: In function 'copy_tree':", file=sys.stderr)
    print("fs/namespace.c:7:1: error: expected ';' before 'return'", file=sys.stderr)
    print("    7 | return x", file=sys.stderr)
    print("make[2]: *** [fs/namespace.o] Error 1", file=sys.stderr)
    sys.exit(2)
elif play.startswith("says "):
    print(play.removeprefix("says "), file=sys.stderr)
    sys.exit(2)
elif play == "hang":
    def tidy(*_):
        (output / "half.o").unlink()
        sys.exit(2)
    signal.signal(signal.SIGTERM, tidy)
    (output / "half.o").touch()
    with open(os.environ["STARTED"], "w") as file:
        file.write(str(os.getpid()))
    signal.pause()
else:
    image = output / "arch/x86/boot/bzImage"
    image.parent.mkdir(parents=True, exist_ok=True)
    image.write_bytes(Path({folder!r}, "vmlinuz").read_bytes())
    (output / "include/config").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(config, output / "include/config/auto.conf")
    if play == "counts":
        # Compiled where a kernel would be, and run here: what a guest would send is beside.
        os.environ["CCACHE_DISABLE"] = "1"
        for line in ("-c fs/namespace.c -o fs/namespace.o", "fs/namespace.o -o x"):
            subprocess.run(["gcc", "--coverage", *line.split()], cwd=output, check=True)
        subprocess.run(["./x"], cwd=output, check=True)
        (output / "fs/namespace.gcda").rename(Path({folder!r}, "gcda"))
"""


@dataclass
class Workshop:
    """A launcher, and a tree it can build with the script."""

    launcher: Launcher
    source: Path

    def configure(self, text: str = CONFIGS["x86"]) -> None:
        (self.source / ".config").write_text(text)

    def _called(self, number: int) -> list[Any]:
        lines = (self.launcher.folder / "calls").read_text().splitlines()
        return [json.loads(line)[number] for line in lines]

    @property
    def calls(self) -> list[list[str]]:
        """What make was asked for, each time."""
        return self._called(0)

    @property
    def compilers(self) -> list[str]:
        """Which program gcc, or that of $CROSS_COMPILE, was to make, each time."""
        return self._called(1)

    @property
    def environments(self) -> list[dict[str, str]]:
        """make's environment, each time."""
        return self._called(2)

    def run(
        self, play: str = "pass", *words: str, make: str = "build"
    ) -> subprocess.CompletedProcess[str]:
        """Build the tree as *make* says, then run the cases on it, which go as *play* says."""
        self.launcher.environment["MAKE_PLAYS"] = make
        command = [sys.executable, "-m", "vm", "run", "--build", "--kernel", str(self.source)]
        output = str(self.launcher.folder / "out")
        command += ["--guests", "1", "--output", output, *words]
        return self.launcher.run(play, command=command)


def make_workshop(tmp_path: Path, cache: Path) -> Workshop:
    """A launcher with the script for make, and a source that is not configured."""
    launcher = make_launcher(tmp_path, cache)
    for name in ("KBUILD_OUTPUT", "MAKEFLAGS", "ARCH"):
        launcher.environment.pop(name, None)
    script = tmp_path / "bin/make"
    text = MAKE.format(python=sys.executable, root=str(paths.ROOT), folder=str(tmp_path))
    script.write_text(text)
    script.chmod(0o755)
    return Workshop(launcher, a_source(tmp_path / "linux"))
