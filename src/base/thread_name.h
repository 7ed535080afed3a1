// Names the calling thread (visible in ps -L, top -H, gdb); at most 15 characters.
#pragma once
namespace rq {
void name_this_thread(const char* name);
}
