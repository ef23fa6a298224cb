/* SPDX-License-Identifier: MIT */
/*
 * A mount outlives its server's sudden death as a directory that only gives errors.  A shell waits
 * for the end of a pipe to us; when nothing was said before, it unmounts what is dead.  It asks for
 * what no cache of the kernel can answer: a server that is just dying still looks alive.
 */
#define _GNU_SOURCE
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const script =
    "trap '' HUP INT TERM\n"
    "read -r word && exit 0\n"
    "[ -z \"$3\" ] || rm -rf -- \"$3\"\n"
    "stat -f -- \"$1\" && exit 0\n"
    "if [ \"$2\" = helped ]; then exec fusermount3 -u -z -- \"$1\"; fi\n"
    "exec umount -l -c -- \"$1\"\n";

extern char **environ;

/* A program in a session of its own, with nothing of ours but `input`. */
static int
spawn(const char *const argv[], int input, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    sigemptyset(&none);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK);
    int rc = posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
    if (rc == 0) {
        rc = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    }
    if (rc == 0) {
        rc = posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    }
    if (rc == 0) {
        rc = posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
    }
    if (rc == 0) {
        rc = posix_spawnp(pid, argv[0], &actions, &attributes, (char *const *)(uintptr_t)argv,
                          environ);
    }
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return -rc;
}

static int
wait_for(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return -errno;
        }
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}

int
mnt_run(const char *const argv[])
{
    pid_t pid;
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int rc = null < 0 ? -errno : spawn(argv, null, &pid);
    if (null >= 0) {
        close(null);
    }
    return rc ? rc : wait_for(pid);
}

int
mnt_watcher_start(struct ovsshm_mount *mount)
{
    int ends[2];
    const char *files = mount->private_files ? mount->private_files : "";
    const char *helped = mount->helped ? "helped" : "";
    const char *const argv[] = {"/bin/sh",    "-c",   script, "ovsshm-mount",
                                mount->point, helped, files,  NULL};
    if (pipe2(ends, O_CLOEXEC)) {
        return -errno;
    }
    int rc = spawn(argv, ends[0], &mount->watcher_pid);
    close(ends[0]);
    if (rc) {
        close(ends[1]);
    } else {
        mount->watcher_fd = ends[1];
    }
    return rc;
}

void
mnt_watcher_stop(struct ovsshm_mount *mount)
{
    if (mount->watcher_fd >= 0) {
        if (write(mount->watcher_fd, "\n", 1) < 0) {
            mnt_debug(mount, "the watcher of the mount has ended: %s", strerror(errno));
        }
        close(mount->watcher_fd);
        mount->watcher_fd = -1;
        wait_for(mount->watcher_pid);
    }
}
