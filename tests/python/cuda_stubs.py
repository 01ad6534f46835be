"""Stands in for the CUDA libraries that PyTorch is linked with and that a test on the CPU never calls.

The wheel that `.ci/libtorch` fetches is of a CUDA build, whose Python module loads 2.5 GB of NVIDIA's libraries. This makes a
library of the same name, a few kilobytes, for each of them that is not there; its functions abort.

    python3 cuda_stubs.py TORCH_LIB OUT [LIBRARIES...]

TORCH_LIB: the folder with libtorch_cuda.so. LIBRARIES: folders in which what is there needs no stub. Needs a C compiler with
binutils (readelf, nm).
"""

import pathlib
import re
import subprocess
import sys

LINKED = ["libtorch_cuda.so", "libtorch_python.so", "libc10_cuda.so", "libtorch_nvshmem.so"]
LIBRARY = re.compile(r"lib(cu|nccl|nv)")
FUNCTION = re.compile(r"(cu|nccl|nv)[A-Za-z]")


def said(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(lib, out, *libraries):
    lib, out = pathlib.Path(lib), pathlib.Path(out)
    needed, unversioned, functions, library_of = set(), set(), {}, {}
    for name in LINKED:
        path = str(lib / name)
        needed |= set(re.findall(r"\(NEEDED\).*\[(.*)\]", said("readelf", "-d", path)))
        for block in said("readelf", "-V", "-W", path).split("File: ")[1:]:
            library_of.update((version, block.split()[0]) for version in re.findall(r"Name: (\S+)", block))
        for symbol in re.findall(r"^\s+U (\S+)$", said("nm", "-D", "--undefined-only", path), re.M):
            function, _, version = symbol.partition("@")
            if version:
                functions.setdefault(version.lstrip("@"), set()).add(function)
            elif FUNCTION.match(function):
                unversioned.add(function)
    there = {file.name for folder in libraries for file in pathlib.Path(folder).glob("*")}
    missing = sorted(name for name in needed if LIBRARY.match(name) and name not in there)
    out.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(missing):
        versions = {version: functions[version] for version in functions if library_of.get(version) == name}
        # A function without a version may be in any of them.
        defined = set().union(*versions.values(), unversioned if number == 0 else set())
        source = "".join(f"void {function}(void) {{ __builtin_trap(); }}\n" for function in sorted(defined))
        script = "".join(f"{version} {{ global: {'; '.join(sorted(of))}; }};\n" for version, of in versions.items())
        (out / "stub.c").write_text(source)
        (out / "stub.map").write_text(script or "{ global: *; };\n")
        options = ["-w", "-shared", "-fPIC", "-nostdlib", f"-Wl,-soname,{name}", f"-Wl,--version-script={out}/stub.map"]
        subprocess.run(["c++", "-x", "c", *options, "-o", f"{out}/{name}", f"{out}/stub.c"], check=True)
    for left in (out / "stub.c", out / "stub.map"):
        left.unlink(missing_ok=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
