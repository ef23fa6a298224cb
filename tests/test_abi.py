# SPDX-License-Identifier: MIT
"""The library as old programs meet it: names, layouts, header, an installation, load and unload.

Everything is asked of the files themselves (nm, readelf, compilers, the loader).
"""

import os
import re
import shutil
from pathlib import Path

import pytest
from conftest import TOP, run

HERE = Path(__file__).parent / "abi"
INCLUDE = TOP / "csrc" / "include"
HEADER = INCLUDE / "openvstorage" / "volumedriver.h"
MAN_PAGE = TOP / "docs" / "man" / "libovsvolumedriver.3"
LIBRARY = "libovsvolumedriver.so.1"
NODE = "OVSVOLUMEDRIVER_1"

FUNCTIONS = re.findall(
    r"\w+",
    """
ovs_ctx_attr_new ovs_ctx_attr_destroy ovs_ctx_attr_set_transport ovs_ctx_attr_set_network_qdepth
ovs_ctx_attr_enable_ha ovs_ctx_new ovs_ctx_init ovs_ctx_destroy
ovs_create_volume ovs_remove_volume ovs_truncate_volume ovs_truncate ovs_stat ovs_list_volumes
ovs_snapshot_create ovs_snapshot_rollback ovs_snapshot_remove ovs_snapshot_is_synced
ovs_snapshot_list ovs_snapshot_list_free
ovs_allocate ovs_buffer_data ovs_buffer_size ovs_deallocate ovs_read ovs_write ovs_flush
ovs_aio_read ovs_aio_write ovs_aio_readcb ovs_aio_writecb ovs_aio_flushcb ovs_aio_suspend
ovs_aio_error ovs_aio_return ovs_aio_finish ovs_aio_cancel
ovs_aio_create_completion ovs_aio_return_completion ovs_aio_wait_completion
ovs_aio_signal_completion ovs_aio_release_completion
""",
)

C = ["-Wall", "-Wextra", "-Wpedantic", "-Wstrict-prototypes", "-Werror"]
CXX = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]


@pytest.fixture(scope="session")
def prefix(tmp_path_factory):
    """An installation under DESTDIR; returns the directory that PREFIX has become."""
    destdir = tmp_path_factory.mktemp("destdir")
    run(
        ["make", "-C", TOP / "csrc", "install", f"DESTDIR={destdir}", "PREFIX=/opt/openvstorage"],
        timeout=280,
    )
    return destdir / "opt" / "openvstorage"


@pytest.fixture(scope="session")
def library(prefix):
    return prefix / "lib" / LIBRARY


@pytest.fixture
def memory_server(server):
    return server("--store", "memory")


def dynamic_symbols(library: Path) -> list[str]:
    """What it exports, as nm writes it: NAME or NAME@@VERSION, without the nodes."""
    lines = run(["nm", "-D", "--defined-only", "--with-symbol-versions", library]).stdout.split(
        "\n"
    )
    return [line.split()[2] for line in lines if line and line.split()[1] != "A"]


def dynamic_section(library: Path, tag: str) -> list[str]:
    text = run(["readelf", "-d", "--wide", library]).stdout
    return re.findall(rf"\({tag}\).*\[(.*)\]", text)


def test_42_historical_functions_are_exported_and_nothing_else_of_that_kind(library):
    assert len(FUNCTIONS) == 42
    exported = [name for name in dynamic_symbols(library) if name.startswith("ovs_")]
    assert sorted(exported) == sorted(f"{name}@@{NODE}" for name in FUNCTIONS)


def test_everything_else_that_is_exported_is_the_native_api(library):
    others = [name for name in dynamic_symbols(library) if not name.startswith("ovs_")]
    assert [name for name in others if not name.startswith("ovsshm_")] == []
    declared = (INCLUDE / "openvstorage" / "shm.h").read_text()
    names = [name.partition("@")[0] for name in others]
    assert [name for name in names if not re.search(rf"\b{name}\(", declared)] == []


def test_soname_is_the_historical_one_and_libc_is_all_it_needs(library):
    assert dynamic_section(library, "SONAME") == [LIBRARY]
    needed = [name.partition(".so")[0] for name in dynamic_section(library, "NEEDED")]
    assert set(needed) <= {"libc", "ld-linux-x86-64", "ld-linux-aarch64"}


def test_header_and_manual_page_have_every_function():
    declared = re.findall(r"^[a-z].*?\b(ovs_\w+)\(", HEADER.read_text(), re.MULTILINE)
    assert sorted(declared) == sorted(FUNCTIONS)
    described = MAN_PAGE.read_text()
    assert [name for name in FUNCTIONS if f"{name}(" not in described] == []


@pytest.mark.parametrize(
    "command",
    [
        ["gcc", "-std=c11", *C],
        ["gcc", "-std=c99", *C],
        ["gcc", "-std=gnu17", *C],
        ["clang", "-std=c11", *C],
        ["g++", "-std=c++11", *CXX],
        ["g++", "-std=c++20", *CXX],
        ["clang++", "-std=c++17", *CXX],
    ],
    ids=" ".join,
)
def test_header_compiles_cleanly(command, tmp_path):
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]}")
    source = tmp_path / ("twice.cc" if "++" in command[0] else "twice.c")
    source.write_text(
        "#include <openvstorage/volumedriver.h>\n" * 2 + "int main(void) { return 0; }\n"
    )
    result = run([*command, "-c", f"-I{INCLUDE}", source, "-o", tmp_path / "twice.o"])
    assert result.stderr == ""


@pytest.mark.parametrize("compiler", ["gcc", "clang", "g++"])
def test_structures_have_the_historical_layout(compiler, tmp_path):
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    program = tmp_path / "layout"
    language = ["-x", "c++"] if compiler == "g++" else []
    run([compiler, *language, f"-I{INCLUDE}", HERE / "layout.c", "-o", program])
    assert run([program]).stdout.splitlines() == [
        "struct ovs_aiocb 32",
        "struct ovs_aiocb.aio_buf 0",
        "struct ovs_aiocb.aio_offset 8",
        "struct ovs_aiocb.aio_nbytes 16",
        "struct ovs_aiocb.request_ 24",
        "ovs_snapshot_info_t 16",
        "ovs_snapshot_info_t.name 0",
        "ovs_snapshot_info_t.size 8",
    ]


def test_program_is_built_by_pkg_config_from_an_installation(prefix, memory_server, tmp_path):
    if shutil.which("pkg-config") is None:
        pytest.skip("no pkg-config")
    destdir = prefix.parents[1]
    flags = run(
        ["pkg-config", "--cflags", "--libs", "openvstorage-shm"],
        env={
            "PKG_CONFIG_LIBDIR": str(prefix / "lib" / "pkgconfig"),
            "PKG_CONFIG_SYSROOT_DIR": str(destdir),
        },
    ).stdout.split()
    assert f"-I{prefix}/include" in flags
    program = tmp_path / "historical"
    run(["gcc", *C, HERE / "historical.c", "-o", program, *flags])
    environment = {
        "LD_LIBRARY_PATH": str(prefix / "lib"),
        "OVS_SHM_SOCKET": str(memory_server.socket),
    }
    assert run([program], env=environment).stdout == "works\n"
    assert (prefix / "share" / "man" / "man3" / MAN_PAGE.name).read_text() == MAN_PAGE.read_text()


def test_binary_linked_against_the_old_library_runs_on_this_one(library, memory_server, tmp_path):
    """The old library had the same SONAME and no symbol versions; a stand-in has just that."""
    stubs = tmp_path / "old.c"
    stubs.write_text(
        "".join(f"int {name}(void);\nint {name}(void) {{ return 0; }}\n" for name in FUNCTIONS)
    )
    old = tmp_path / "old" / "libovsvolumedriver.so"
    old.parent.mkdir()
    run(["gcc", "-shared", "-fPIC", f"-Wl,-soname,{LIBRARY}", stubs, "-o", old])
    program = tmp_path / "historical"
    run(["gcc", f"-I{INCLUDE}", HERE / "historical.c", "-o", program, old])
    environment = {
        "LD_LIBRARY_PATH": str(library.parent),
        "OVS_SHM_SOCKET": str(memory_server.socket),
    }
    result = run([program], env=environment)
    assert (result.stdout, result.stderr) == ("works\n", "")


def test_library_unloads_and_leaves_no_thread_descriptor_or_mapping(
    library, memory_server, tmp_path
):
    program = tmp_path / "unload"
    run(["gcc", *C[:2], "-Werror", f"-I{INCLUDE}", HERE / "unload.c", "-o", program, "-ldl"])
    environment = {"OVS_SHM_SOCKET": str(memory_server.socket)}
    assert run([program, os.fspath(library)], env=environment).stdout == "works\n"
