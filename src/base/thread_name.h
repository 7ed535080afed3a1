// What the calling thread is called and how it shares the processors.
#pragma once
namespace rq {

// Visible in ps -L, top -H, gdb; at most 15 characters.
void name_this_thread(const char* name);

// For long work in the background: requests come first when the processors are busy (nice 10; Linux counts it by thread).
void yield_to_requests();

}  // namespace rq
