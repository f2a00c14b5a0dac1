/* A disk that fails: preloaded into the product's processes, it has reads, writes and syncs below a folder end with EIO.

   ILL_DISK_FOLDER names the folder. ILL_DISK_ORDER names a file; while it is there, what it holds is ordered: "read",
   "write", "sync", or several of them. Everything else reaches the real disk. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Whether the order is that this fails for this file. */
static int fails(int file, const char *deed)
{
    const char *order = getenv("ILL_DISK_ORDER"), *folder = getenv("ILL_DISK_FOLDER");
    char said[32] = "", link[32], path[PATH_MAX] = "";
    int handle;

    if (order == NULL || folder == NULL || (handle = open(order, O_RDONLY | O_CLOEXEC)) < 0)
        return 0;
    ssize_t length = REAL(read)(handle, said, sizeof said - 1);
    close(handle);
    if (length <= 0 || strstr(said, deed) == NULL)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    if (readlink(link, path, sizeof path - 1) < 0 || strncmp(path, folder, strlen(folder)) != 0)
        return 0;
    errno = EIO;
    return 1;
}

ssize_t read(int file, void *to, size_t count)
{
    return fails(file, "read") ? -1 : REAL(read)(file, to, count);
}

ssize_t pread(int file, void *to, size_t count, off_t at)
{
    return fails(file, "read") ? -1 : REAL(pread)(file, to, count, at);
}

ssize_t pread64(int file, void *to, size_t count, off64_t at)
{
    return fails(file, "read") ? -1 : REAL(pread64)(file, to, count, at);
}

ssize_t write(int file, const void *from, size_t count)
{
    return fails(file, "write") ? -1 : REAL(write)(file, from, count);
}

ssize_t writev(int file, const struct iovec *parts, int count)
{
    return fails(file, "write") ? -1 : REAL(writev)(file, parts, count);
}

ssize_t pwrite(int file, const void *from, size_t count, off_t at)
{
    return fails(file, "write") ? -1 : REAL(pwrite)(file, from, count, at);
}

ssize_t pwrite64(int file, const void *from, size_t count, off64_t at)
{
    return fails(file, "write") ? -1 : REAL(pwrite64)(file, from, count, at);
}

int fsync(int file)
{
    return fails(file, "sync") ? -1 : REAL(fsync)(file);
}

int fdatasync(int file)
{
    return fails(file, "sync") ? -1 : REAL(fdatasync)(file);
}
