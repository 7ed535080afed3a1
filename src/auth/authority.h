// Authority: says who a caller is and what it may do, by a credentials file that is loaded anew when it changes (within a
// second) or when reload() is called.
//
// identify() answers at once where passwords are compared as they are, or where a hash was checked before with the same
// password (a keyed digest is remembered, until the file is loaded anew). A hash that has to be computed takes long: that is
// done on the thread `auth`, one at a time, equal questions once. Wrong passwords are remembered too, up to a bound.
// Threads: all functions from any. `done` is called once: at once, or on the thread `auth`; never with a lock held.
// stop() answers what waits with Errc::Busy, and may be called twice.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "auth/credentials.h"
#include "base/result.h"

namespace rq::auth {

// What one caller may do. Remains as it is when the file is loaded anew.
class Caller {
 public:
  Caller(std::shared_ptr<const CredentialStore> store, const User* user) : store_(std::move(store)), user_(user) {}
  bool may(std::string_view permission) const {
    const User* everybody = store_->everybody();
    return (everybody != nullptr && everybody->may(permission)) || (user_ != nullptr && user_->may(permission));
  }

 private:
  std::shared_ptr<const CredentialStore> store_;
  const User* user_;                   // null: nobody that the file knows
};

class Authority {
 public:
  // Errors: Errc::Io, BadRequest with a text for the operator.
  static Result<std::unique_ptr<Authority>> open(const std::string& path);
  virtual ~Authority() = default;

  // Somebody without credentials.
  virtual Caller anybody() const = 0;
  // nullopt: it takes the other function. Empty username: no credentials.
  virtual std::optional<Caller> identify(std::string_view username, std::string_view password) = 0;
  // Errc::Busy: too many are waiting.
  virtual void identify(const std::string& username, const std::string& password, std::function<void(Result<Caller>)> done) = 0;
  // What -join-as sends; empty when the user is unknown or has only a hash.
  virtual std::string password_of(std::string_view username) const = 0;

  // Loads the file now. False: it is wrong (logged), what was loaded before stays.
  virtual bool reload() = 0;
  // Loads it if it was changed since it was looked at last; the thread `auth` does so every second.
  virtual void reload_if_changed() = 0;
  virtual void stop() = 0;
};

}  // namespace rq::auth
