#include "base/result.h"

#include <gtest/gtest.h>

#include <memory>

namespace rq {
namespace {

Result<int> half(int number) {
  if (number % 2 != 0) return fail(Errc::BadRequest, "odd");
  return number / 2;
}
Result<int> quarter(int number) {
  RQ_TRY(const int once, half(number));
  RQ_TRY(const int twice, half(once));
  return twice;
}
Result<> check_even(int number) {
  RQ_CHECK(half(number));
  return {};
}

TEST(Result, GivesTheValueOrTheFirstErrorToTheCaller) {
  EXPECT_EQ(quarter(12).value(), 3);
  const Result<int> failed = quarter(6);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error(), (Error{Errc::BadRequest, "odd"}));
}

TEST(Result, WithoutValueCarriesTheError) {
  EXPECT_TRUE(check_even(2));
  EXPECT_EQ(check_even(1).error().code, Errc::BadRequest);
}

TEST(Result, MovesWhatCannotBeCopied) {
  const auto made = [](bool good) -> Result<std::unique_ptr<int>> {
    if (!good) return fail(Errc::Io);
    return std::make_unique<int>(7);
  };
  const auto taken = [&](bool good) -> Result<int> {
    RQ_TRY(const std::unique_ptr<int> pointer, made(good));
    return *pointer;
  };
  EXPECT_EQ(taken(true).value(), 7);
  EXPECT_EQ(taken(false).error().code, Errc::Io);
}

TEST(Error, SaysItsDetailWhereTheCodeHasNoTextOfItsOwn) {
  EXPECT_EQ((Error{Errc::BadRequest, "bad"}.text()), "bad");
  EXPECT_EQ((Error{Errc::LeaderNotFound, ""}.text()), "leader not found");
  EXPECT_EQ((Error{Errc::StaleRead, ""}.text()), "stale read");
}

// Clients that see an empty text can't tell what happened.
TEST(Error, IsNeverSilent) {
  for (int code = 0; code <= static_cast<int>(Errc::Internal); ++code)
    EXPECT_FALSE((Error{static_cast<Errc>(code), "detail"}.text().empty())) << code;
}

}  // namespace
}  // namespace rq
