/* Loaded before anything else, it makes this process see an x86 CPU without AVX-512, VNNI and AMX: `older_cpu.py`.
 *
 * Linux lets a thread, and the threads that it starts, fault at the instruction CPUID. Each fault is answered with what
 * the CPU says, less some bits. A program that asks the CPU, as all engines do, then takes its AVX2 code. A program that
 * uses an instruction without asking is not hindered.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define BIT(n) (1u << (n))

/* Leaf 7, sublevel 0: EBX, ECX, EDX; sublevel 1: EAX, EDX. */
static const unsigned EBX_0 = BIT(16) | BIT(17) | BIT(21) | BIT(28) | BIT(30) | BIT(31); /* AVX-512 F DQ IFMA CD BW VL */
static const unsigned ECX_0 = BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14); /* VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ */
static const unsigned EDX_0 = BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25); /* ..., FP16, AMX */
static const unsigned EAX_1 = BIT(4) | BIT(5) | BIT(21) | BIT(23); /* AVX-VNNI, AVX-512 BF16, AMX-FP16, AVX-IFMA */
static const unsigned EDX_1 = BIT(4) | BIT(5) | BIT(8) | BIT(10) | BIT(19); /* AVX-VNNI-INT8, ..., AMX-COMPLEX, AVX10 */

static struct sigaction before;

static long let_cpuid_run(int runs) { return syscall(SYS_arch_prctl, ARCH_SET_CPUID, (unsigned long)runs); }

static void answer(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *instruction = (const unsigned char *)registers[REG_RIP];
    if (instruction[0] == 0x0f && instruction[1] == 0xa2) {
        unsigned leaf = registers[REG_RAX], sublevel = registers[REG_RCX], a = leaf, b, c = sublevel, d;
        let_cpuid_run(1);
        __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
        let_cpuid_run(0);
        if (leaf == 7 && sublevel == 0) {
            b &= ~EBX_0;
            c &= ~ECX_0;
            d &= ~EDX_0;
        } else if (leaf == 7 && sublevel == 1) {
            a &= ~EAX_1;
            d &= ~EDX_1;
        } else if (leaf == 0x1d || leaf == 0x1e || leaf == 0x24) { /* tiles of AMX, AVX10 */
            a = b = c = d = 0;
        }
        registers[REG_RAX] = a;
        registers[REG_RBX] = b;
        registers[REG_RCX] = c;
        registers[REG_RDX] = d;
        registers[REG_RIP] += 2;
    } else if (before.sa_flags & SA_SIGINFO) {
        before.sa_sigaction(number, info, context);
    } else {
        signal(SIGSEGV, SIG_DFL); /* the fault comes again, and ends the process */
    }
}

__attribute__((constructor)) static void start(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = answer;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &action, &before);
    if (let_cpuid_run(0)) {
        perror("this CPU or kernel cannot make CPUID fault, so nothing can be hidden");
        exit(77);
    }
}
