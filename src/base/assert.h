// RQ_ASSERT: a broken invariant is our bug; it is logged and the process ends, in release too.
#pragma once

namespace rq {
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line) noexcept;
}

#define RQ_ASSERT(condition) \
  (static_cast<bool>(condition) ? void(0) : ::rq::assertion_failed(#condition, __FILE__, __LINE__))
