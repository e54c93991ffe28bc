/* vm.h - address space: mapping, guarding, giving pages back. Every call keeps errno as it was. */
#ifndef SL_VM_H
#define SL_VM_H

#include <stddef.h>
#include <stdint.h>

size_t sl_vm_page_bytes(void);

/* Private zero pages, writable, not reserved, not locked, never huge: 0; -ENOMEM. */
int  sl_vm_map(void **out, size_t bytes);
void sl_vm_unmap(void *at, size_t bytes);

/* Addresses without memory behind them: 0; -ENOMEM. Then, of a part of them: memory, its pages there and zero: 0; -ENOMEM. */
int sl_vm_reserve(void **out, size_t bytes);
int sl_vm_commit(void *at, size_t bytes);

/* Make a touch of these pages a SIGSEGV; what they held is gone. Again: nothing. */
int sl_vm_guard(void *at, size_t bytes);   /* costs no mapping. 0; -EINVAL: the kernel cannot (before 6.13, or locked memory); -ENOMEM */
int sl_vm_protect(void *at, size_t bytes); /* costs two mappings: 0; -ENOMEM */

/* Give the pages back; they read as zero when they are touched again. */
void sl_vm_drop(void *at, size_t bytes);

/* Bytes of memory that the machine has. */
uint64_t sl_vm_memory_bytes(void);

/* How many mappings the kernel allows this process. */
uint64_t sl_vm_maps_max(void);

#endif
