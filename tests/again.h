/* again.h - this program, run again in a forked child with a word that says what to do; and what an emulator adds to its words. */
#ifndef AGAIN_H
#define AGAIN_H

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Does not return. Where the kernel cannot run the program by itself, because it was built for another processor, Meson says in
 * MESON_EXE_WRAPPER with what it is run: words for a shell. */
static inline void run_again(const char *argument)
{
    const char *wrapper = getenv("MESON_EXE_WRAPPER");
    char path[4096];
    ssize_t n;

    if (wrapper == NULL || *wrapper == '\0') {
        execl("/proc/self/exe", "test", argument, (char *)NULL);
    } else if ((n = readlink("/proc/self/exe", path, sizeof path - 1)) > 0) {
        path[n] = '\0';
        execl("/bin/sh", "sh", "-c", "eval exec \"$MESON_EXE_WRAPPER\" '\"$0\" \"$1\"'", path, argument, (char *)NULL);
    }
    _exit(127);
}

/* Of what a child said: without the line that qemu-user adds when the program that it runs is ended by a signal. */
static inline void forget_emulator(char *said)
{
    char *line = strstr(said, "qemu: uncaught target signal "), *end;

    if (line != NULL && (end = strchr(line, '\n')) != NULL)
        memmove(line, end + 1, strlen(end + 1) + 1);
}

#endif
