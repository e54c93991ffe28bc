/* switch_aarch64.S - the context switch for aarch64; see switch_x86_64.S. Saves what AAPCS64 lets a call rely on: x19 to x30 and the low
 * halves of v8 to v15. The control word FPCR is not switched. What enters a new context is a ret, which needs no landing pad. */

    .text
    .globl  sl_ctx_swap
    .hidden sl_ctx_swap
    .type   sl_ctx_swap, %function
    .p2align 4
sl_ctx_swap:
    .cfi_startproc
    hint    #34                     /* bti c */
    sub     sp, sp, #160
    .cfi_adjust_cfa_offset 160
    stp     x19, x20, [sp, #0]
    .cfi_rel_offset x19, 0
    .cfi_rel_offset x20, 8
    stp     x21, x22, [sp, #16]
    .cfi_rel_offset x21, 16
    .cfi_rel_offset x22, 24
    stp     x23, x24, [sp, #32]
    .cfi_rel_offset x23, 32
    .cfi_rel_offset x24, 40
    stp     x25, x26, [sp, #48]
    .cfi_rel_offset x25, 48
    .cfi_rel_offset x26, 56
    stp     x27, x28, [sp, #64]
    .cfi_rel_offset x27, 64
    .cfi_rel_offset x28, 72
    stp     x29, x30, [sp, #80]
    .cfi_rel_offset x29, 80
    .cfi_rel_offset x30, 88
    stp     d8, d9, [sp, #96]
    stp     d10, d11, [sp, #112]
    stp     d12, d13, [sp, #128]
    stp     d14, d15, [sp, #144]
    mov     x9, sp
    str     x9, [x0]
    mov     sp, x1
    cbz     x2, 1f
    mov     x0, x3
    blr     x2
1:
    ldp     d14, d15, [sp, #144]
    ldp     d12, d13, [sp, #128]
    ldp     d10, d11, [sp, #112]
    ldp     d8, d9, [sp, #96]
    ldp     x29, x30, [sp, #80]
    .cfi_restore x29
    .cfi_restore x30
    ldp     x27, x28, [sp, #64]
    .cfi_restore x27
    .cfi_restore x28
    ldp     x25, x26, [sp, #48]
    .cfi_restore x25
    .cfi_restore x26
    ldp     x23, x24, [sp, #32]
    .cfi_restore x23
    .cfi_restore x24
    ldp     x21, x22, [sp, #16]
    .cfi_restore x21
    .cfi_restore x22
    ldp     x19, x20, [sp, #0]
    .cfi_restore x19
    .cfi_restore x20
    add     sp, sp, #160
    .cfi_adjust_cfa_offset -160
    ret
    .cfi_endproc
    .size   sl_ctx_swap, . - sl_ctx_swap

/* void sley_gen_switch(void **sp): exchange the running side of a generator for the one at *sp; the same frame. */
    .globl  sley_gen_switch
    .type   sley_gen_switch, %function
    .p2align 4
sley_gen_switch:
    .cfi_startproc
    hint    #34                     /* bti c */
    sub     sp, sp, #160
    .cfi_adjust_cfa_offset 160
    stp     x19, x20, [sp, #0]
    .cfi_rel_offset x19, 0
    .cfi_rel_offset x20, 8
    stp     x21, x22, [sp, #16]
    .cfi_rel_offset x21, 16
    .cfi_rel_offset x22, 24
    stp     x23, x24, [sp, #32]
    .cfi_rel_offset x23, 32
    .cfi_rel_offset x24, 40
    stp     x25, x26, [sp, #48]
    .cfi_rel_offset x25, 48
    .cfi_rel_offset x26, 56
    stp     x27, x28, [sp, #64]
    .cfi_rel_offset x27, 64
    .cfi_rel_offset x28, 72
    stp     x29, x30, [sp, #80]
    .cfi_rel_offset x29, 80
    .cfi_rel_offset x30, 88
    stp     d8, d9, [sp, #96]
    stp     d10, d11, [sp, #112]
    stp     d12, d13, [sp, #128]
    stp     d14, d15, [sp, #144]
    ldr     x9, [x0]
    mov     x10, sp
    str     x10, [x0]
    mov     sp, x9
    ldp     d14, d15, [sp, #144]
    ldp     d12, d13, [sp, #128]
    ldp     d10, d11, [sp, #112]
    ldp     d8, d9, [sp, #96]
    ldp     x29, x30, [sp, #80]
    .cfi_restore x29
    .cfi_restore x30
    ldp     x27, x28, [sp, #64]
    .cfi_restore x27
    .cfi_restore x28
    ldp     x25, x26, [sp, #48]
    .cfi_restore x25
    .cfi_restore x26
    ldp     x23, x24, [sp, #32]
    .cfi_restore x23
    .cfi_restore x24
    ldp     x21, x22, [sp, #16]
    .cfi_restore x21
    .cfi_restore x22
    ldp     x19, x20, [sp, #0]
    .cfi_restore x19
    .cfi_restore x20
    add     sp, sp, #160
    .cfi_adjust_cfa_offset -160
    ret
    .cfi_endproc
    .size   sley_gen_switch, . - sley_gen_switch

/* Where a new context begins: x19 holds the function, x20 its argument. */
    .globl  sl_ctx_entry
    .hidden sl_ctx_entry
    .type   sl_ctx_entry, %function
    .p2align 4
    .cfi_startproc
    .cfi_undefined x30
    nop
sl_ctx_entry:
    hint    #36                     /* bti j */
    mov     x29, #0
    mov     x0, x20
    blr     x19
    brk     #1
    .cfi_endproc
    .size   sl_ctx_entry, . - sl_ctx_entry

#ifdef __ARM_FEATURE_BTI_DEFAULT
/* To the linker: the hints above are there, so this object does not keep the library from being marked for BTI. */
    .section .note.gnu.property, "a", %note
    .p2align 3
    .word   4, 16, 5                /* bytes of name and of description, NT_GNU_PROPERTY_TYPE_0 */
    .asciz  "GNU"
    .word   0xc0000000, 4, 1, 0     /* GNU_PROPERTY_AARCH64_FEATURE_1_AND: BTI */
#endif

    .section .note.GNU-stack, "", %progbits
