# SPDX-License-Identifier: GPL-2.0-only
"""The pages of help: what stands above and below the options."""

from vm.kernel.source import SCHEMES

_PACKAGE = " or ".join(scheme.form for scheme in SCHEMES.values() if scheme.obtainable)
_FORMS = " or ".join(scheme.form for scheme in SCHEMES.values())

TOP = """Test open_tree(OPEN_TREE_NAMESPACE) on a real kernel: boot it in a virtual machine, run the
test cases there, print a verdict. Nothing is installed on this machine, and root is not needed.

  python3 -m vm                             the newest packaged kernel that has the flag
  python3 -m vm run --kernel ~/linux        the kernel that was built in that tree

`python3 -m vm VERB --help` explains each verb.
"""

RUN = """Boot a kernel in a virtual machine, run the cases of open_tree(OPEN_TREE_NAMESPACE)
there, print a verdict.

  python3 -m vm run --kernel arch/x86/boot/bzImage     your kernel, in QEMU
  python3 -m vm run --kernel ./linux                   your kernel, User-Mode Linux
  python3 -m vm run --kernel ~/linux                   what was built in that tree
  python3 -m vm run --kernel ~/linux --build           build it first
  python3 -m vm run --build                            in a kernel tree: build it, and run it
  python3 -m vm run --kernel debian:trixie-backports=7.0
                                                       a packaged kernel of that series
  python3 -m vm run --kernel core.rpm+modules.rpm      packages (.deb, .rpm, .pkg.tar.zst, .tar)
  python3 -m vm run --kernel debian:trixie-backports/cloud-arm64
                                                       one for another processor, emulated
  python3 -m vm run --kernel ./good --kernel ./bad     both, and the cases that differ
  python3 -m vm run -- -k covered -x                   arguments after -- go to pytest
  python3 -m vm run --system debian:trixie --kernel K  in a complete Debian system
"""

SHELL = """Boot a kernel in a virtual machine and open a shell there, with pytest, the cases,
python3 and the tools of this machine (ls, mount, unshare, strace and the like). The guest cannot
reach the host's files.

  python3 -m vm shell --kernel ./linux         a prompt; exit or Ctrl-] ends the guest
  echo 'uname -r' | python3 -m vm shell        run commands from standard input; the exit status is
                                               the script's
"""

BENCH = """Boot a kernel in a virtual machine and run the benchmark there (python3 -m bench).

  python3 -m vm bench                                 everything, on the newest packaged kernel
  python3 -m vm bench --kernel ./linux -- --quick     arguments after -- go to the benchmark
  python3 -m vm bench --kernel ./before --kernel ./after --worse-than 2
                                                      two kernels compared, booted in turns
"""

CHECK = """Run the project's own tests: style, types, the harness on each Python that is here,
guests that fail on purpose, and the kernel cases in a guest. tox.ini lists them; tox itself is
installed into a private environment. All of it takes some minutes.

  python3 -m vm check                       everything
  python3 -m vm check -- -e lint,type       these alone (arguments after -- go to tox)
  python3 -m vm check -- -e py312 -- -k vm  arguments after a second -- go to pytest
"""

FAULTS = """Build a kernel in which the faults of the catalogue (faults/) can be switched on, one
at a time; boot each as User-Mode Linux, and see which cases notice it.

  python3 -m vm faults                      all of them: most of an hour on two processors
  python3 -m vm faults locks                the faults of one family
  python3 -m vm faults 'fs/pnode.c:*'       those that operators make of one file
  python3 -m vm faults --list               the catalogue
  python3 -m vm faults --kernel ~/linux     in a copy of that source
"""

FAULTS_END = """Each result is kept as it is measured: a start that is interrupted goes on where it
was, and one after a change of the cases, of the kernel or of a fault measures again what that
concerns.

exit status:
  0    every fault was noticed, or a reason is known why not
  1    a fault written by hand was noticed by nothing
  2    usage: the catalogue or the command line makes no sense
  3    this machine cannot do it: a program is missing, the disk is full
  125  the kernel could not be built
  130  interrupted
"""

KERNELS = f"""List the kernels in the cache, as --kernel takes them; with SUITE also what that
Debian suite offers; with --prune remove the unused ones instead, with --record print what a
run on several has shown of them.

  python3 -m vm kernels                     the cache
  python3 -m vm kernels trixie-backports    and what can be fetched from there
  python3 -m vm kernels --record DIR        which has which fix, from run --output DIR
  python3 -m vm run --kernel debian:trixie-backports/amd64=7.0
                                            {_PACKAGE}, any part left out
"""

KERNEL = (
    "a bzImage, an Image for arm64 or a vmlinux (also compressed, or in a unified kernel image), a"
    " User-Mode Linux binary, a build tree, a package as"
    f" {_FORMS}, or `host` for the running kernel's image (default: the"
    " newest packaged kernel that has the flag)"
)

BUILD = """--build:
  Runs make in a build tree: the source itself, or the folder that make O= was given. The options
  that the cases and a guest need are added to the tree's .config; the file stays as it is, the
  result lies beside it as .config.open_tree_ns. A source without a .config is built from
  the architecture's default options, for what $ARCH names or User-Mode Linux with --backend uml, in
  a folder of the cache ($KBUILD_OUTPUT where that is set). make compiles only what has changed,
  through ccache where it is installed, and reads $CC, $LLVM, $CROSS_COMPILE and the like as always.
  What depends on an added option is compiled again whenever you alternate with a make of your own:
  to avoid that, have it in your .config.

  --kconfig FRAGMENT builds with further options, for this run alone; those that do not stick are
  named. A fragment is as make has them: CONFIG_NAME=y, comments begin with #.

a series of patches:
  In a kernel tree, with this checkout in PYTHONPATH: each patch of your branch by itself, up to the
  first that breaks a rule; and a series from the mailing list, applied to the branch you are on:

    git rebase -x 'python3 -m vm run --build' BASE
    b4 shazam MESSAGE-ID && python3 -m vm run --build

bisection:
  With --build the exit status is 0, 1, 125 (skip this commit) or 128 (no commit can be judged: a
  mistake in the options, a full disk), so that in a kernel tree

    export PYTHONPATH=/path/to/this/checkout
    git bisect start BAD GOOD
    git bisect run python3 -m vm run --build

  finds the commit; arguments after -- choose the case it is about. Try the line by hand first: it
  should give 0 on the good commit and 1 on the bad one.

Python and pytest in the guest:
  The guest gets the Python that runs this program; where that is linked with libpython.so and PATH
  or the system's folders have another of the same version that is not, the guest gets the other:
  under emulation a run takes a tenth less. A guest of another processor than this machine's gets
  the Python of the distribution's packages for that, fetched once, and this machine's pytest.

"""

EPILOG = """exit status:
  0    every case passed
  1    a case failed, or the kernel crashed or complained on its console
  2    usage
  3    this machine cannot do it: a program is missing, an image is bad, the disk is full
  4    nothing was tested: the kernel lacks the flag, or no case was selected
  5    with --fail-uncovered: no case failed, and a line of the patch was run by none
  124  the run limit was hit
  125  the kernel could not be built or booted (git bisect run: skip)
  130  interrupted
With several kernels the worst status wins, in the order 130, 2, 1, 124, 125, 3, 0, 4: a kernel
without the flag does not spoil the result of one that has it.
With --build, 124 becomes 1 (the kernel hangs), 4 becomes 125 (no verdict), and 2 and 3 become 128,
which ends git bisect run: they would be the same at each commit.
"""
