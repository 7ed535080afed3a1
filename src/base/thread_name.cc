#include "base/thread_name.h"

#include <pthread.h>

void rq::name_this_thread(const char* name) { pthread_setname_np(pthread_self(), name); }
