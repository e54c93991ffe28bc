/* switch_x86_64.S - save the running context, load another, run a function on the way in.
 *
 * void sl_ctx_swap(void **from_sp, void *to_sp, void (*fn)(void *), void *arg)
 *
 * Saves the six callee-saved registers and the stack pointer; both contexts stand at the same place in the same frame layout, so
 * the CFI below is right at every instruction, before and after the stack pointer changes. fn runs on the target's stack, after
 * *from_sp is stored: only there may the old context be published. Ends in ret: with both fibers parked by the same call chain the
 * return predictor stays in step. Floating-point control words are not switched. */

    .text
    .globl  sl_ctx_swap
    .hidden sl_ctx_swap
    .type   sl_ctx_swap, @function
    .p2align 4
sl_ctx_swap:
    .cfi_startproc
    pushq   %rbp
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset rbp, 0
    pushq   %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset rbx, 0
    pushq   %r12
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r12, 0
    pushq   %r13
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r13, 0
    pushq   %r14
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r14, 0
    pushq   %r15
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r15, 0
    subq    $8, %rsp                /* keeps the call below aligned to 16 */
    .cfi_adjust_cfa_offset 8
    movq    %rsp, (%rdi)
    movq    %rsi, %rsp
    testq   %rdx, %rdx
    je      1f
    movq    %rcx, %rdi
    call    *%rdx
1:
    addq    $8, %rsp
    .cfi_adjust_cfa_offset -8
    popq    %r15
    .cfi_adjust_cfa_offset -8
    .cfi_restore r15
    popq    %r14
    .cfi_adjust_cfa_offset -8
    .cfi_restore r14
    popq    %r13
    .cfi_adjust_cfa_offset -8
    .cfi_restore r13
    popq    %r12
    .cfi_adjust_cfa_offset -8
    .cfi_restore r12
    popq    %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore rbx
    popq    %rbp
    .cfi_adjust_cfa_offset -8
    .cfi_restore rbp
    ret
    .cfi_endproc
    .size   sl_ctx_swap, . - sl_ctx_swap

/* void sley_gen_switch(void **sp)
 *
 * Exchanges the running side of a generator for the one at *sp; the same frame as above. It is called from code compiled into programs,
 * so the two sides rarely came by the same call chain: pop and jmp, which leave the return predictor alone, are three times as fast as
 * ret. */
    .globl  sley_gen_switch
    .type   sley_gen_switch, @function
    .p2align 4
sley_gen_switch:
    .cfi_startproc
    pushq   %rbp
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset rbp, 0
    pushq   %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset rbx, 0
    pushq   %r12
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r12, 0
    pushq   %r13
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r13, 0
    pushq   %r14
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r14, 0
    pushq   %r15
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r15, 0
    subq    $8, %rsp
    .cfi_adjust_cfa_offset 8
    movq    (%rdi), %rax
    movq    %rsp, (%rdi)
    movq    %rax, %rsp
    addq    $8, %rsp
    .cfi_adjust_cfa_offset -8
    popq    %r15
    .cfi_adjust_cfa_offset -8
    .cfi_restore r15
    popq    %r14
    .cfi_adjust_cfa_offset -8
    .cfi_restore r14
    popq    %r13
    .cfi_adjust_cfa_offset -8
    .cfi_restore r13
    popq    %r12
    .cfi_adjust_cfa_offset -8
    .cfi_restore r12
    popq    %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore rbx
    popq    %rbp
    .cfi_adjust_cfa_offset -8
    .cfi_restore rbp
    popq    %rcx
    .cfi_adjust_cfa_offset -8
    .cfi_register rip, rcx
    notrack jmp *%rcx
    .cfi_endproc
    .size   sley_gen_switch, . - sley_gen_switch

/* Where a new context begins: r12 holds the function, r13 its argument (see sl_ctx_make). The undefined return address and the
 * zero frame pointer stop unwinders of both kinds. The nop in front: they look one byte before a return address. */
    .globl  sl_ctx_entry
    .hidden sl_ctx_entry
    .type   sl_ctx_entry, @function
    .p2align 4
    .cfi_startproc
    .cfi_undefined rip
    nop
sl_ctx_entry:
    xorl    %ebp, %ebp
    movq    %r13, %rdi
    call    *%r12
    ud2
    .cfi_endproc
    .size   sl_ctx_entry, . - sl_ctx_entry

    .section .note.GNU-stack, "", @progbits
