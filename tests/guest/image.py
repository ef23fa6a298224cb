# SPDX-License-Identifier: MIT
"""What the guest boots: Debian's cloud kernel and an initramfs of the host's own tools.

The kernel package is downloaded and taken apart, never installed. Both files are kept outside of
the checkout, under names that change with what goes in.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

META_PACKAGE = "linux-image-cloud-amd64"
MODULES = ["virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "ext4", "crc32c_generic"]
TOOLS = ["mke2fs", "e2fsck", "resize2fs", "dumpe2fs"]  # the rest is busybox
LINKS = {"mkfs.ext4": "mke2fs", "fsck.ext4": "e2fsck"}
SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

# The files in /run come with each start, see machine.py. What lies between the two marks is the
# script's own output.
INIT = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/sbin HOME=/root
mkdir -p /proc /sys /dev /mnt /root /tmp
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo -onlcr
for module in $(cat /modules/order); do
    insmod "/modules/$module" || echo "cannot load $module"
done
echo "$(cat /run/mark) begin"
sh /run/script <"$(cat /run/stdin)"
status=$?
echo
echo "$(cat /run/mark) end $status"
poweroff -f
"""


class ImageError(RuntimeError):
    """The guest's kernel or initramfs cannot be made; the text says why and what to do."""


def cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(base) / "openvstorage-shm"
    path.mkdir(parents=True, exist_ok=True)
    return path


def _output(*argv: str | Path, cwd: Path | None = None) -> str:
    command = [str(a) for a in argv]
    try:
        done = subprocess.run(
            command, cwd=cwd, check=True, capture_output=True, text=True, timeout=600
        )
    except FileNotFoundError as error:
        raise ImageError(f"{command[0]} is missing; run: scripts/install-debs guest") from error
    except subprocess.CalledProcessError as error:
        raise ImageError(f"{' '.join(command)} failed: {error.stderr.strip()}") from error
    return done.stdout


def _publish(made: Path, final: Path) -> None:
    """Another process may have been faster; its result is as good."""
    try:
        made.rename(final)
    except OSError:
        if not final.exists():
            raise


def _with_dependencies(wanted: Iterable[str], files: dict[str, Path], builtin: str) -> list[str]:
    """The modules to load, each after those it needs; what the kernel has built in is left out."""
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order or re.search(rf"/{name.replace('_', '[_-]')}\.ko$", builtin, re.M):
            return
        if name not in files:
            raise ImageError(f"the guest kernel has no module {name}")
        needs = re.search(rb"\0depends=([^\0]*)\0", files[name].read_bytes())
        for need in needs[1].decode().split(",") if needs and needs[1] else []:
            visit(need.replace("-", "_"))
        order.append(name)

    for name in wanted:
        visit(name)
    return order


def _download_kernel(into: Path) -> Path:
    apt = SCRIPTS / "private-apt"
    for lists_are_fresh in (False, True):
        depends = _output(apt, "apt-cache", "depends", "--important", META_PACKAGE)
        package = re.search(r"Depends: (linux-image-\S+)", depends)
        try:
            if not package:
                raise ImageError(f"Debian's package lists have no {META_PACKAGE}")
            _output(apt, "apt-get", "-qq", "download", package[1], cwd=into)
            break
        except ImageError:
            if lists_are_fresh:
                raise
            _output(apt, "update")  # the mirror has moved on to another kernel
    return next(into.glob("linux-image-*.deb"))


def _make_kernel(final: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="tmp.guest-kernel-", dir=final.parent) as tmp_name:
        tmp = Path(tmp_name)
        _output("dpkg-deb", "-x", _download_kernel(tmp), tmp / "tree")
        made = tmp / "made"
        made.mkdir()
        shutil.move(next((tmp / "tree" / "boot").glob("vmlinuz-*")), made / "vmlinuz")
        files = {f.stem.replace("-", "_"): f for f in (tmp / "tree" / "lib").rglob("*.ko")}
        builtin = next((tmp / "tree" / "lib").rglob("modules.builtin")).read_text()
        order = _with_dependencies(MODULES, files, builtin)
        (made / "modules").mkdir()
        for name in order:
            shutil.move(files[name], made / "modules" / name)
        (made / "modules" / "order").write_text("".join(f"{name}\n" for name in order))
        _publish(made, final)


def _host_files() -> dict[str, Path]:
    """Where in the guest: which file of the host. The tools bring their shared libraries along."""
    files = {}
    busybox = shutil.which("busybox")
    if not busybox:
        raise ImageError("busybox is missing; run: scripts/install-debs guest")
    files["bin/busybox"] = Path(busybox)
    for tool in TOOLS:
        found = shutil.which(tool, path="/usr/sbin:/sbin:/usr/bin:/bin")
        if not found:
            raise ImageError(f"{tool} is missing; run: scripts/install-debs guest")
        files[f"sbin/{tool}"] = Path(found)
        for library in re.findall(r"(/\S+) \(0x", _output("ldd", found)):
            files[library.lstrip("/")] = Path(library)
    files["etc/mke2fs.conf"] = Path("/etc/mke2fs.conf")
    return files


def pack(tree: Path, archive: Path) -> None:
    """The kernel takes several such archives, one behind the other."""
    names = sorted(str(f.relative_to(tree)) for f in tree.rglob("*"))
    try:
        with archive.open("wb") as out:
            subprocess.run(
                ["cpio", "--quiet", "-o", "-H", "newc", "--owner=+0:+0"],
                input="".join(f"{name}\n" for name in names).encode(),
                cwd=tree,
                stdout=out,
                check=True,
                timeout=60,
            )
    except FileNotFoundError as error:
        raise ImageError("cpio is missing; run: scripts/install-debs guest") from error


def _make_initramfs(final: Path, kernel: Path, host_files: dict[str, Path]) -> None:
    with tempfile.TemporaryDirectory(prefix="tmp.guest-initramfs-", dir=final.parent) as tmp_name:
        tree = Path(tmp_name) / "tree"
        for name, source in host_files.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, tree / name)
        for name, target in LINKS.items():
            (tree / "sbin" / name).symlink_to(target)
        shutil.copytree(kernel / "modules", tree / "modules")
        (tree / "init").write_text(INIT)
        (tree / "init").chmod(0o755)
        made = Path(tmp_name) / "made"
        pack(tree, made)
        _publish(made, final)


def _key(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(p).digest() for p in parts)).hexdigest()[:12]


def guest_image() -> tuple[Path, Path]:
    """Kernel and initramfs; a download the first time, milliseconds later."""
    kernel = cache_dir() / f"guest-kernel-{_key(' '.join(MODULES).encode())}"
    if not kernel.exists():
        _make_kernel(kernel)
    host_files = _host_files()
    contents = [f.read_bytes() for f in host_files.values()]
    key = _key(Path(__file__).read_bytes(), kernel.name.encode(), *contents)
    initramfs = cache_dir() / f"guest-initramfs-{key}.cpio"
    if not initramfs.exists():
        _make_initramfs(initramfs, kernel, host_files)
    return kernel / "vmlinuz", initramfs
