// Result<T>: a value or an Error. Expected failures travel in it; see docs in error.h for the codes.
#pragma once

#include <string>
#include <tl/expected.hpp>
#include <utility>

#include "base/error.h"

namespace rq {

template <class T = void>
struct [[nodiscard]] Result : tl::expected<T, Error> {
  using tl::expected<T, Error>::expected;
  Result(tl::expected<T, Error> other) : tl::expected<T, Error>(std::move(other)) {}
};

inline tl::unexpected<Error> fail(Errc code, std::string detail = {}) {
  return tl::unexpected<Error>(Error{code, std::move(detail)});
}
inline tl::unexpected<Error> fail(Error error) { return tl::unexpected<Error>(std::move(error)); }

}  // namespace rq

#define RQ_CAT2(a, b) a##b
#define RQ_CAT(a, b) RQ_CAT2(a, b)
// RQ_TRY(auto x, f()); declares x from f()'s value, or returns f()'s error to our caller.
#define RQ_TRY(decl, expr)                                                                     \
  auto RQ_CAT(try_, __LINE__) = (expr);                                                        \
  if (!RQ_CAT(try_, __LINE__))                                                                 \
    return tl::unexpected(std::move(RQ_CAT(try_, __LINE__)).error());                          \
  decl = *std::move(RQ_CAT(try_, __LINE__))
// The same for Result<> (no value).
#define RQ_CHECK(expr)                                                                         \
  if (auto RQ_CAT(try_, __LINE__) = (expr); !RQ_CAT(try_, __LINE__))                           \
  return tl::unexpected(std::move(RQ_CAT(try_, __LINE__)).error())
