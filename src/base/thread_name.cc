#include "base/thread_name.h"

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

void rq::name_this_thread(const char* name) { pthread_setname_np(pthread_self(), name); }

void rq::yield_to_requests() {
  constexpr int kNice = 10;
  setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNice);
}
