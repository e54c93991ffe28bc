/* quota.c - cgroup v2 (cpu.max) and v1 (cpu.cfs_quota_us). Where the hierarchies are mounted stands in /proc/self/mountinfo, which
 * group this process is in in /proc/self/cgroup. In a container the mount may show a subtree only: its root is then a prefix of the group's
 * path, or unrelated to it, and what is seen at the mount point is the container's own group. */
#include "plat/quota.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static FILE *open_below(const char *root, const char *path, const char *name)
{
    char full[PATH_MAX];

    if (snprintf(full, sizeof full, "%s%s%s%s", root, path, name[0] != '\0' ? "/" : "", name) >= (int)sizeof full)
        return NULL;
    return fopen(full, "re");
}

/* Whole processors for quota microseconds in each period; 0: no limit. */
static unsigned processors(long long quota, long long period)
{
    return quota > 0 && period > 0 ? (unsigned)((quota + period - 1) / period) : 0;
}

static unsigned quota_at(const char *root, const char *directory, bool v2)
{
    long long quota = 0, period = 0;
    FILE *f;

    if (v2) {
        f = open_below(root, directory, "cpu.max");
        if (f == NULL)
            return 0;
        if (fscanf(f, "%lld %lld", &quota, &period) != 2) /* "max 100000": no limit */
            quota = 0;
        fclose(f);
        return processors(quota, period);
    }
    f = open_below(root, directory, "cpu.cfs_quota_us");
    if (f == NULL)
        return 0;
    if (fscanf(f, "%lld", &quota) != 1)
        quota = 0;
    fclose(f);
    f = open_below(root, directory, "cpu.cfs_period_us");
    if (f == NULL)
        return 0;
    if (fscanf(f, "%lld", &period) != 1)
        period = 0;
    fclose(f);
    return processors(quota, period);
}

/* Is `word` in the comma-separated `list`? */
static bool listed(const char *list, const char *word)
{
    size_t n = strlen(word);

    for (const char *p = list; p != NULL; p = strchr(p, ','), p = p != NULL ? p + 1 : NULL)
        if (strncmp(p, word, n) == 0 && (p[n] == ',' || p[n] == '\0'))
            return true;
    return false;
}

/* The group's path in the hierarchy of v2, or of v1's cpu controller; the caller's to free. NULL: in none. */
static char *group_path(const char *root, bool v2)
{
    FILE *f = open_below(root, "/proc/self/cgroup", "");
    char *line = NULL, *path = NULL;
    size_t capacity = 0;

    if (f == NULL)
        return NULL;
    while (path == NULL && getline(&line, &capacity, f) > 0) { /* number:controllers:path */
        char *controllers = strchr(line, ':'), *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;

        if (group == NULL)
            continue;
        line[strcspn(line, "\n")] = '\0';
        *group++ = '\0';
        controllers++;
        if (v2 ? controllers[0] == '\0' : listed(controllers, "cpu"))
            path = strdup(group);
    }
    free(line);
    fclose(f);
    return path;
}

/* The smaller of two quotas, of which 0 is none. */
static unsigned smaller(unsigned a, unsigned b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

static unsigned quota_of_mount(const char *root, const char *mount_root, const char *mount_point, bool v2)
{
    char *group = group_path(root, v2), directory[PATH_MAX];
    size_t prefix = strcmp(mount_root, "/") == 0 ? 0 : strlen(mount_root), floor = strlen(mount_point);
    unsigned found = 0;
    bool below;

    if (group == NULL)
        return 0;
    below = strncmp(group, mount_root, prefix) == 0 && (group[prefix] == '/' || group[prefix] == '\0');
    if (snprintf(directory, sizeof directory, "%s%s", mount_point, below ? group + prefix : "") < (int)sizeof directory) {
        for (;;) { /* from the group up to the mount point */
            size_t n = strlen(directory);

            if (n > floor && directory[n - 1] == '/') {
                directory[n - 1] = '\0';
                continue;
            }
            found = smaller(found, quota_at(root, directory, v2));
            if (n <= floor)
                break;
            *strrchr(directory, '/') = '\0';
        }
    }
    free(group);
    return found;
}

unsigned sl_quota_cpus(const char *root)
{
    int saved = errno;
    FILE *f = open_below(root, "/proc/self/mountinfo", "");
    char *line = NULL;
    size_t capacity = 0;
    unsigned found = 0;

    while (f != NULL && getline(&line, &capacity, f) > 0) {
        /* id parent major:minor root mount-point options [optional]... - type source super-options */
        char mount_root[PATH_MAX], mount_point[PATH_MAX], type[16], options[256];
        const char *rest = strstr(line, " - ");

        if (rest == NULL || sscanf(line, "%*s %*s %*s %4095s %4095s", mount_root, mount_point) != 2 ||
            sscanf(rest, " - %15s %*s %255s", type, options) != 2)
            continue;
        if (strcmp(type, "cgroup2") == 0)
            found = smaller(found, quota_of_mount(root, mount_root, mount_point, true));
        else if (strcmp(type, "cgroup") == 0 && listed(options, "cpu"))
            found = smaller(found, quota_of_mount(root, mount_root, mount_point, false));
    }
    free(line);
    if (f != NULL)
        fclose(f);
    errno = saved;
    return found;
}
