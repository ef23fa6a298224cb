# SPDX-License-Identifier: MIT
"""Builds the two extension modules; everything else is in pyproject.toml.

The C sources are compiled by csrc/Makefile into a static archive, which both modules link: a wheel
needs neither libovsvolumedriver nor libovsshmserver at run time.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

try:
    from Cython.Build import cythonize
    from pybind11.setup_helpers import ParallelCompile, Pybind11Extension
    from setuptools import Extension
except ImportError as error:
    sys.exit(
        f"openvstorage-shm: error: building needs the Python package {error.name}; run\n"
        f"    {sys.executable} -m pip install 'cython>=3.0' 'pybind11>=2.12'\n"
        "or leave out --no-build-isolation"
    )

TOP = Path(__file__).resolve().parent
ARCHIVE = Path("build", "python", "libovsshm.a")
VERSION = (TOP / "VERSION").read_text().strip()
# What both modules are compiled from, besides their own source.
SHARED = ["VERSION", "setup.py", *map(str, sorted(Path("csrc/include").glob("*/*.h")))]
# Our own WARNINGS: a compiler that warns about more than ours must not stop an installation.
MAKE = ["make", "-s", "-C", "csrc", f"-j{os.cpu_count() or 1}", "WARNINGS=-Wall -Wextra"]


def has_header(name: str) -> bool:
    command = [*os.environ.get("CC", "cc").split(), "-E", "-x", "c", "-", "-o", os.devnull]
    include = sysconfig.get_path("include")
    source = f"#include <{name}>\n"
    result = subprocess.run(
        [*command, f"-I{include}"], input=source, text=True, capture_output=True, timeout=60
    )
    return result.returncode == 0


def missing_packages() -> dict[str, str]:
    """What the build lacks -> the Debian package that has it."""
    compiler = os.environ.get("CC", "cc").split()[0]
    missing = {}
    for program, package in (("make", "make"), (compiler, "gcc"), ("g++", "g++")):
        if not shutil.which(program):
            missing[f"the program {program}"] = package
    if shutil.which(compiler):
        for header, package in (
            ("stdio.h", "libc6-dev"),
            ("fuse3/fuse_opt.h", "libfuse3-dev"),
            ("liburing.h", "liburing-dev"),
            ("Python.h", "python3-dev"),
        ):
            if not has_header(header):
                missing[f"the header {header}"] = package
    return missing


def needs_recompile(object_file: str, source: str) -> bool:
    """A new archive alone means linking again, not compiling again."""
    if not Path(object_file).exists():
        return True
    built = Path(object_file).stat().st_mtime
    headers = Path(source).parent.glob("*.hpp")
    return any(Path(one).stat().st_mtime > built for one in (source, *headers, *SHARED))


class BuildExt(build_ext):
    def run(self) -> None:
        missing = missing_packages()
        if missing:
            things = ", ".join(missing)
            packages = " ".join(sorted(set(missing.values())))
            sys.exit(
                f"openvstorage-shm: error: cannot build without {things}.\n"
                f"On Debian: apt-get install {packages}"
            )
        out = TOP / ARCHIVE.parent
        try:
            subprocess.run([*MAKE, f"OUT={out}", str(TOP / ARCHIVE)], cwd=TOP, check=True)
        except subprocess.CalledProcessError:
            sys.exit("openvstorage-shm: error: the C sources do not compile, see above")
        ParallelCompile(needs_recompile=needs_recompile).install()
        # Not before: what an extension depends on goes into the source archive.
        for extension in self.extensions:
            extension.depends.append(str(ARCHIVE))
        super().run()


def common(module: str) -> dict[str, list]:
    """The C core is linked from the archive; the module exports what its .map says."""
    symbols = f"{module.replace('.', '/')}.map"
    return {
        "include_dirs": ["csrc/include"],
        "define_macros": [("OVSSHM_VERSION_TEXT", f'"{VERSION}"')],
        "extra_objects": [str(ARCHIVE)],
        "extra_link_args": [f"-Wl,--version-script={symbols}", "-pthread"],
        "depends": [symbols, *SHARED],
    }


core = Extension(
    "shmserver._core",
    ["shmserver/_core.pyx"],
    libraries=["uring", "fuse3"],
    **common("shmserver._core"),
)
native = Pybind11Extension(
    "shmclient._native",
    sorted(map(str, Path("shmclient/native").glob("*.cpp"))),
    cxx_std=17,
    **common("shmclient._native"),
)
native.depends += sorted(map(str, Path("shmclient/native").glob("*.hpp")))

setup(
    ext_modules=[
        *cythonize([core], build_dir="build/cython", language_level=3),
        native,
    ],
    cmdclass={"build_ext": BuildExt},
)
