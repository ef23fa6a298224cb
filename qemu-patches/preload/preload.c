/* SPDX-License-Identifier: MIT */
/*
 * ovs-qemu-preload.so: brings the openvstorage block driver into an unmodified QEMU program.
 *
 * Preloaded, it may find itself in any program. So it refers to nothing of QEMU, only looks: in a
 * program that is the very build of QEMU the driver was compiled for it loads
 * block-openvstorage.so from its own directory, whose constructor registers the driver before
 * main() runs. In every other program it does nothing.
 *
 * ovs-qemu wants more than that and says so by OVS_QEMU_PID (exec keeps the process id): then a
 * program that is not that QEMU ends with an error, and the preload is taken out of the environment
 * so that the children of QEMU never see it.
 *
 * Threads: runs once, in a constructor, before there is a second thread.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ovs-qemu-target.h"

#define DRIVER "block-openvstorage.so"

static const char *program_name(char *buf, size_t size_bytes)
{
    ssize_t n = readlink("/proc/self/exe", buf, size_bytes - 1);

    if (n < 0) {
        return program_invocation_name;
    }
    buf[n] = '\0';
    return buf;
}

/* With loadable modules, a QEMU program exports the functions drivers register themselves with. */
static bool is_qemu(void)
{
    return dlsym(RTLD_DEFAULT, "register_module_init") && dlsym(RTLD_DEFAULT, "bdrv_register");
}

/*
 * The name of the symbol that QEMU asks of its own modules, a hash over version, packager's version
 * and configure script, is among the constants of the program (it exports no such symbol itself).
 */
static int find_stamp(struct dl_phdr_info *program, size_t size, void *found)
{
    (void)size;
    for (int i = 0; i < program->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &program->dlpi_phdr[i];

        if (segment->p_type == PT_LOAD && segment->p_flags == PF_R &&
            memmem((const char *)program->dlpi_addr + segment->p_vaddr, segment->p_filesz,
                   OVS_QEMU_STAMP, sizeof(OVS_QEMU_STAMP))) {
            *(bool *)found = true;
        }
    }
    return 1; /* the first object is the program; the others do not matter */
}

static bool is_our_qemu(void)
{
    bool found = false;

    dl_iterate_phdr(find_stamp, &found);
    return found;
}

/* The list in LD_PRELOAD is separated by colons or spaces. */
static void leave_ld_preload(const char *own_path)
{
    const char *list = getenv("LD_PRELOAD");
    char *old = list ? strdup(list) : NULL;
    char *kept = list ? calloc(1, strlen(list) + 1) : NULL;
    char *save = NULL;

    if (old && kept) {
        for (char *entry = strtok_r(old, ": ", &save); entry; entry = strtok_r(NULL, ": ", &save)) {
            if (strcmp(entry, own_path)) {
                strcat(strcat(kept, *kept ? ":" : ""), entry);
            }
        }
    }
    if (kept && *kept) {
        setenv("LD_PRELOAD", kept, 1);
    } else {
        unsetenv("LD_PRELOAD");
    }
    free(kept);
    free(old);
}

static void load_driver(const char *own_path, bool strict)
{
    char path[PATH_MAX];
    const char *slash = strrchr(own_path, '/');
    int dir_bytes = slash ? (int)(slash + 1 - own_path) : 0;
    int n = snprintf(path, sizeof(path), "%.*s" DRIVER, dir_bytes, own_path);

    if (n < (int)sizeof(path) && dlopen(path, RTLD_NOW)) {
        return;
    }
    fprintf(stderr, "ovs-qemu: the openvstorage driver cannot be loaded: %s\n", dlerror());
    if (strict) {
        _exit(1);
    }
}

/* _exit(): the program is half initialised, its exit handlers must not run. */
static _Noreturn void refuse(bool qemu)
{
    char buf[PATH_MAX];
    const char *program = program_name(buf, sizeof(buf));

    if (qemu) {
        fprintf(stderr,
                "ovs-qemu: %s is another QEMU than the openvstorage driver was built for, which "
                "is\nQEMU %s. Its own version shows with --version. Install that version of QEMU, "
                "or\nbuild the driver again with this one installed.\n",
                program, OVS_QEMU_VERSION);
    } else {
        fprintf(stderr,
                "ovs-qemu: %s is no QEMU program that takes block drivers. Put ovs-qemu right "
                "before\nqemu-img, qemu-io, qemu-nbd, qemu-storage-daemon or qemu-system-* of "
                "QEMU\n%s, which the openvstorage driver was built for.\n",
                program, OVS_QEMU_VERSION);
    }
    _exit(1);
}

static void __attribute__((constructor)) ovs_qemu_preload(void)
{
    const char *pid = getenv("OVS_QEMU_PID");
    bool strict = pid && strtol(pid, NULL, 10) == (long)getpid();
    bool qemu = is_qemu();
    bool ours = qemu && is_our_qemu();
    Dl_info self;

    if ((!strict && !ours) || !dladdr((void *)&find_stamp, &self)) {
        return;
    }
    if (strict) {
        unsetenv("OVS_QEMU_PID");
        leave_ld_preload(self.dli_fname);
    }
    if (!ours) {
        refuse(qemu);
    }
    load_driver(self.dli_fname, strict);
}
