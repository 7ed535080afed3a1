#include "auth/authority.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <future>

namespace rq::auth {
namespace {

// bcrypt of "secret".
constexpr const char* kHashed = R"([{"username":"h","password_hash":"$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW","perms":["query"]}])";

class AuthorityTest : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(dir_); }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  void write(std::string_view text) { std::ofstream(path_) << text; }
  void open(std::string_view text) {
    write(text);
    auto made = Authority::open(path_);
    ASSERT_TRUE(made) << made.error().text();
    authority_ = *std::move(made);
  }
  Caller wait(const std::string& user, const std::string& password) {
    std::promise<Caller> promise;
    authority_->identify(user, password, [&](Result<Caller> caller) { promise.set_value(*std::move(caller)); });
    return promise.get_future().get();
  }
  const std::filesystem::path dir_ = std::filesystem::temp_directory_path() / ("rq-auth-" + std::to_string(::getpid()));
  const std::string path_ = (dir_ / "auth.json").string();
  std::unique_ptr<Authority> authority_;
};

TEST_F(AuthorityTest, KnowsPlainPasswordsAtOnce) {
  open(R"([{"username":"u","password":"p","perms":["query"]},{"username":"*","perms":["ready"]}])");
  EXPECT_TRUE(authority_->identify("u", "p")->may("query"));
  EXPECT_FALSE(authority_->identify("u", "p")->may("execute"));
  EXPECT_FALSE(authority_->identify("u", "wrong")->may("query"));
  EXPECT_FALSE(authority_->identify("u", "")->may("query"));
  EXPECT_FALSE(authority_->identify("nobody", "p")->may("query"));
  EXPECT_FALSE(authority_->identify("", "")->may("query"));
  EXPECT_TRUE(authority_->identify("u", "wrong")->may("ready"));     // everybody may, whatever was sent
  EXPECT_TRUE(authority_->anybody().may("ready"));
  EXPECT_EQ(authority_->password_of("u"), "p");
  EXPECT_EQ(authority_->password_of("nobody"), "");
}

TEST_F(AuthorityTest, ComputesAHashOnceAndRemembersBothAnswers) {
  open(kHashed);
  EXPECT_FALSE(authority_->identify("h", "secret"));
  EXPECT_TRUE(wait("h", "secret").may("query"));
  EXPECT_TRUE(authority_->identify("h", "secret")->may("query"));
  EXPECT_FALSE(authority_->identify("h", "wrong"));
  EXPECT_FALSE(wait("h", "wrong").may("query"));
  EXPECT_FALSE(authority_->identify("h", "wrong")->may("query"));
  EXPECT_TRUE(authority_->identify("h", "secret")->may("query"));
  EXPECT_EQ(authority_->password_of("h"), "");
}

TEST_F(AuthorityTest, BoundsWhatWaits) {
  open(kHashed);
  std::atomic<int> busy = 0, answered = 0;
  for (int i = 0; i < 500; ++i)
    authority_->identify("h", "wrong" + std::to_string(i), [&](const Result<Caller>& caller) {
      if (!caller) busy += caller.error().code == Errc::Busy ? 1 : 0;
      else EXPECT_FALSE(caller->may("query"));
      ++answered;
    });
  authority_->stop();
  EXPECT_EQ(answered, 500);
  EXPECT_GT(busy, 0);
}

TEST_F(AuthorityTest, LoadsAChangedFileAndKeepsTheOldOneIfItIsWrong) {
  open(R"([{"username":"u","password":"p","perms":["query"]}])");
  const Caller before = *authority_->identify("u", "p");
  write(R"([{"username":"u","password":"longer","perms":["execute"]}])");
  authority_->reload_if_changed();
  EXPECT_FALSE(authority_->identify("u", "p")->may("query"));
  EXPECT_TRUE(authority_->identify("u", "longer")->may("execute"));
  EXPECT_TRUE(before.may("query"));                // a request under way goes on
  write("[{");
  authority_->reload_if_changed();
  EXPECT_FALSE(authority_->reload());
  EXPECT_TRUE(authority_->identify("u", "longer")->may("execute"));
  std::filesystem::remove(path_);
  authority_->reload_if_changed();
  EXPECT_TRUE(authority_->identify("u", "longer")->may("execute"));
  write(kHashed);
  authority_->reload_if_changed();
  EXPECT_FALSE(authority_->identify("u", "longer")->may("execute"));
  EXPECT_TRUE(wait("h", "secret").may("query"));
  write(R"([])");
  EXPECT_TRUE(authority_->reload());
  EXPECT_FALSE(authority_->identify("h", "secret")->may("query"));   // what was remembered is forgotten
}

TEST_F(AuthorityTest, SaysWhyThereIsNoFile) {
  EXPECT_EQ(Authority::open(path_).error().text(), "open " + path_ + ": no such file or directory");
}

}  // namespace
}  // namespace rq::auth
