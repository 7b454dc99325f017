/* What a Cortex-M4 does before main: the vector table, the floating-point unit, initialized data; then newlib's _start,
   which clears the memory and calls main. */
#include <stdint.h>

extern uint32_t stack_top[], data_in_flash[], data_begin[], data_end[];
extern void _start(void);

void reset(void);
void halt(void);

__attribute__((section(".vectors"), used)) static void *const vectors[16] = {
    stack_top, (void *)reset, (void *)halt, (void *)halt, (void *)halt, (void *)halt, (void *)halt,
};

void reset(void)
{
    volatile uint32_t *coprocessor_access = (volatile uint32_t *)0xE000ED88;
    uint32_t *from = data_in_flash, *to = data_begin;
    *coprocessor_access |= 0xFu << 20;
    __asm volatile("dsb\n isb");
    while (to < data_end) {
        *to++ = *from++;
    }
    _start();
}

void halt(void)
{
    for (;;) {
    }
}
