#include "stages/common/thread.h"

#include <signal.h>

int thread_start(pthread_t *ret, void *(*run)(void *), void *arg) {
        sigset_t all, before;
        int error;

        sigfillset(&all);
        sigdelset(&all, SIGSEGV);
        sigdelset(&all, SIGBUS);
        sigdelset(&all, SIGABRT);
        sigdelset(&all, SIGILL);
        sigdelset(&all, SIGFPE);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        error = pthread_create(ret, NULL, run, arg);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return -error;
}
