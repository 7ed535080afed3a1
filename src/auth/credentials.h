// CredentialStore: who may do what (spec cluster.md section 11). Immutable after parsing; thread-safe.
//
// The file is a JSON array of {"username","password","perms"}. Unlike the reference an absent member is empty, never
// inherited from the entry before. Comparison of passwords takes the same time whatever is wrong.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>

#include "base/result.h"

namespace rq::auth {

class CredentialStore {
 public:
  // Errors: Errc::BadRequest with a text for the operator.
  static Result<CredentialStore> parse(std::string_view json);

  // The user `*` has it, or this user does and the password is right. Empty username: no credentials given.
  bool allows(std::string_view username, std::string_view password, std::string_view permission) const;
  // The password of -join-as; empty when the user is unknown.
  std::string password_of(std::string_view username) const;

 private:
  struct User {
    std::string password;
    std::set<std::string, std::less<>> permissions;
  };
  std::map<std::string, User, std::less<>> users_;
};

}  // namespace rq::auth
