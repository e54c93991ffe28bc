/* quota.h - how many processors the control group's limit on processor time amounts to. */
#ifndef SL_QUOTA_H
#define SL_QUOTA_H

/* The smallest quota of this process's group and the groups around it, rounded up to whole processors; 0: no quota. `root` stands in front
 * of every path that is read: "" for this machine. */
unsigned sl_quota_cpus(const char *root);

#endif
