// CredentialStore: the users of a credentials file (spec cluster.md section 11). Immutable after parsing; thread-safe.
//
// The file is a JSON array of {"username","password","perms"}, read as Go's decoder reads it (names of members in any case,
// the last of equal ones counts). Unlike the reference an absent member is empty, never inherited from the entry before.
// "password_hash" (bcrypt or yescrypt, as crypt(3) writes it) takes the place of "password" when passwords are compared;
// "password" beside it is only what -join-as sends.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>

#include "base/result.h"

namespace rq::auth {

struct User {
  std::string name, password;
  std::string hash;                     // empty: the password is compared as it is
  std::set<std::string, std::less<>> permissions;
  bool may(std::string_view permission) const { return permissions.contains(permission) || permissions.contains("all"); }
};

class CredentialStore {
 public:
  // Errors: Errc::BadRequest with the text of Go's decoder.
  static Result<CredentialStore> parse(std::string_view json);

  const User* find(std::string_view name) const;      // null: no such user
  const User* everybody() const { return find("*"); } // whose permissions need no credentials

 private:
  std::map<std::string, User, std::less<>> users_;
};

// The time tells nothing of where they differ.
bool equal_in_constant_time(std::string_view given, std::string_view wanted);
// Slow on purpose: tens of milliseconds and more.
bool matches_hash(const std::string& password, const std::string& hash);

}  // namespace rq::auth
