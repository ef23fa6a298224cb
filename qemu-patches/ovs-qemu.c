/* SPDX-License-Identifier: MIT */
/*
 * ovs-qemu PROGRAM [ARG...]: run an unmodified QEMU program with the openvstorage block driver.
 *
 * Puts ovs-qemu-preload.so into LD_PRELOAD and becomes PROGRAM. Programs that the dynamic loader
 * would silently start without it are refused here; all others are checked by the preload itself.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ovs-qemu-target.h"

#define PRELOAD "ovs-qemu-preload.so"

/* As of env(1) and nohup(1). */
enum { EXIT_USAGE = 125, EXIT_CANNOT_EXECUTE = 126, EXIT_NOT_FOUND = 127 };

static const char help[] =
    "usage: ovs-qemu PROGRAM [ARG...]\n"
    "\n"
    "Runs an unmodified QEMU program with the openvstorage block driver, for example:\n"
    "\n"
    "  ovs-qemu qemu-img create openvstorage:vol 10G\n"
    "  ovs-qemu qemu-img info openvstorage:vol\n"
    "  ovs-qemu qemu-system-x86_64 -drive file=openvstorage:vol,if=virtio,cache=none,format=raw\n"
    "\n"
    "PROGRAM is qemu-img, qemu-io, qemu-nbd, qemu-storage-daemon or qemu-system-* of exactly\n"
    "QEMU " OVS_QEMU_VERSION ".\n"
    "Any other program is refused. QEMU's own children run without the driver.\n"
    "\n"
    "The server's socket is the volume option socket=PATH, else $OVS_SHM_SOCKET, else the default\n"
    "one of shmserver.\n"
    "\n"
    "Exit status: that of PROGRAM, or\n"
    "  1    PROGRAM is not that QEMU, or the driver cannot be loaded\n"
    "  125  ovs-qemu itself fails, or is used wrongly\n"
    "  126  PROGRAM is found but cannot be run with the driver\n"
    "  127  PROGRAM is not found\n";

static _Noreturn void __attribute__((format(printf, 2, 3))) fail(int status, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("ovs-qemu: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(status);
}

/* Beside this program (source tree), else where it is installed: OVS_QEMU_OBJECTS, from here. */
static char *find_preload(void)
{
    static const char *const places[] = { ".", OVS_QEMU_OBJECTS };
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    const char *dir;

    if (n < 0) {
        fail(EXIT_USAGE, "cannot find myself: %s", strerror(errno));
    }
    self[n] = '\0';
    dir = dirname(self);
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        char *path;
        char *real;

        if (asprintf(&path, "%s/%s/" PRELOAD, dir, places[i]) < 0) {
            fail(EXIT_USAGE, "out of memory");
        }
        real = realpath(path, NULL);
        free(path);
        if (real) {
            return real;
        }
    }
    fail(EXIT_USAGE, PRELOAD " is neither in %s nor in %s/" OVS_QEMU_OBJECTS, dir, dir);
}

/* In PATH, as execvp() does: a file that may not be run is remembered, but the search goes on. */
static char *find_program(const char *name)
{
    const char *search = getenv("PATH");
    char *dirs = strdup(search ? search : "/bin:/usr/bin");
    int reason = ENOENT;
    char *dir;

    if (!dirs) {
        fail(EXIT_USAGE, "out of memory");
    }
    for (char *rest = dirs; (dir = strsep(&rest, ":"));) {
        struct stat st;
        char *path;

        if (asprintf(&path, "%s/%s", *dir ? dir : ".", name) < 0) {
            fail(EXIT_USAGE, "out of memory");
        }
        if (!stat(path, &st) && S_ISREG(st.st_mode)) {
            if (!access(path, X_OK)) {
                free(dirs);
                return path;
            }
            reason = errno;
        }
        free(path);
    }
    fail(reason == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_EXECUTE, "%s: %s", name,
         reason == ENOENT ? "no such program in PATH" : strerror(reason));
}

static bool read_elf_header(int fd, Elf64_Ehdr *header)
{
    return pread(fd, header, sizeof(*header), 0) == sizeof(*header) &&
           !memcmp(header->e_ident, ELFMAG, SELFMAG);
}

static bool has_our_architecture(const Elf64_Ehdr *header)
{
    Elf64_Ehdr own;
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    bool same = fd >= 0 && read_elf_header(fd, &own) && header->e_machine == own.e_machine &&
                header->e_ident[EI_CLASS] == own.e_ident[EI_CLASS];

    close(fd);
    return same;
}

static bool is_dynamic(int fd, const Elf64_Ehdr *header)
{
    for (unsigned int i = 0; i < header->e_phnum; i++) {
        Elf64_Phdr segment;
        off_t offset_bytes = (off_t)header->e_phoff + (off_t)i * header->e_phentsize;

        if (pread(fd, &segment, sizeof(segment), offset_bytes) == sizeof(segment) &&
            segment.p_type == PT_INTERP) {
            return true;
        }
    }
    return false;
}

/* Why the dynamic loader would leave the preload out, or NULL. */
static const char *preload_obstacle(int fd)
{
    Elf64_Ehdr header;
    struct stat st;

    if (fstat(fd, &st) || !read_elf_header(fd, &header)) {
        return "is no binary program (a script? name the QEMU program that it starts)";
    }
    if (!has_our_architecture(&header)) {
        return "is a program for another architecture than the driver";
    }
    if (!is_dynamic(fd, &header)) {
        return "is statically linked, nothing can be loaded into it";
    }
    if (((st.st_mode & S_ISUID) && st.st_uid != geteuid()) ||
        ((st.st_mode & S_ISGID) && st.st_gid != getegid())) {
        return "changes its user or group when it starts, nothing can be loaded into it";
    }
    return NULL;
}

static void check_program(const char *path)
{
    struct stat st;
    const char *obstacle;
    int fd;

    if (stat(path, &st)) {
        fail(errno == ENOENT || errno == ENOTDIR ? EXIT_NOT_FOUND : EXIT_CANNOT_EXECUTE, "%s: %s",
             path, strerror(errno));
    }
    if (S_ISDIR(st.st_mode)) {
        fail(EXIT_CANNOT_EXECUTE, "%s: %s", path, strerror(EISDIR));
    }
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (access(path, X_OK) || fd < 0) {
        fail(EXIT_CANNOT_EXECUTE, "%s: %s", path, strerror(errno));
    }
    obstacle = preload_obstacle(fd);
    close(fd);
    if (obstacle) {
        fail(EXIT_CANNOT_EXECUTE, "%s %s", path, obstacle);
    }
}

static void set_environment(const char *preload)
{
    const char *others = getenv("LD_PRELOAD");
    char *list = NULL;
    char *pid = NULL;

    if (strpbrk(preload, ": ")) {
        fail(EXIT_USAGE, "%s cannot be preloaded: its path has a space or colon in it", preload);
    }
    if (asprintf(&list, "%s%s%s", preload, others && *others ? ":" : "", others ? others : "") < 0 ||
        asprintf(&pid, "%ld", (long)getpid()) < 0 || setenv("LD_PRELOAD", list, 1) ||
        setenv("OVS_QEMU_PID", pid, 1)) {
        fail(EXIT_USAGE, "out of memory");
    }
    free(pid);
    free(list);
}

int main(int argc, char **argv)
{
    char *program;
    char *preload;

    if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
        fputs(help, stdout);
        return 0;
    }
    if (argc > 1 && !strcmp(argv[1], "--")) {
        argc--;
        argv++;
    }
    if (argc < 2 || argv[1][0] == '-') {
        fail(EXIT_USAGE, "%s; see ovs-qemu --help", argc < 2 ? "no program named" : "unknown option");
    }
    preload = find_preload();
    program = strchr(argv[1], '/') ? argv[1] : find_program(argv[1]);
    check_program(program);
    set_environment(preload);
    execv(program, argv + 1);
    fail(EXIT_CANNOT_EXECUTE, "%s: %s", program, strerror(errno));
}
