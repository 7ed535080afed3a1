#include "auth/credentials.h"

#include <rapidjson/document.h>
#include <rapidjson/error/en.h>

#include <algorithm>

namespace rq::auth {
namespace {

// Looks at every byte of the longer text, so that the time tells nothing of where they differ.
bool equal_in_constant_time(std::string_view given, std::string_view wanted) {
  unsigned difference = given.size() == wanted.size() ? 0 : 1;
  const std::size_t size = std::max(given.size(), wanted.size());
  for (std::size_t i = 0; i < size; ++i) {
    const unsigned a = i < given.size() ? static_cast<unsigned char>(given[i]) : 0;
    const unsigned b = i < wanted.size() ? static_cast<unsigned char>(wanted[i]) : 0;
    difference |= a ^ b;
  }
  return difference == 0;
}

bool has(const std::set<std::string, std::less<>>& permissions, std::string_view wanted) {
  return permissions.contains(wanted) || permissions.contains("all");
}

Result<std::string> text_member(const rapidjson::Value& entry, const char* name) {
  const auto found = entry.FindMember(name);
  if (found == entry.MemberEnd() || found->value.IsNull()) return std::string();
  if (!found->value.IsString()) return fail(Errc::BadRequest, std::string("member ") + name + " of a credential is not a string");
  return std::string(found->value.GetString(), found->value.GetStringLength());
}

}  // namespace

Result<CredentialStore> CredentialStore::parse(std::string_view json) {
  rapidjson::Document document;
  document.Parse(json.data(), json.size());
  if (document.HasParseError()) {
    if (document.GetParseError() == rapidjson::kParseErrorDocumentEmpty || document.GetErrorOffset() >= json.size()) return fail(Errc::BadRequest, "EOF");
    return fail(Errc::BadRequest, std::string(rapidjson::GetParseError_En(document.GetParseError())) + " at byte " + std::to_string(document.GetErrorOffset()));
  }
  CredentialStore store;
  if (document.IsObject() && document.ObjectEmpty()) return store;
  if (!document.IsArray()) return fail(Errc::BadRequest, "credentials are not a JSON array");
  for (const rapidjson::Value& entry : document.GetArray()) {
    if (!entry.IsObject()) return fail(Errc::BadRequest, "a credential is not a JSON object");
    RQ_TRY(const std::string name, text_member(entry, "username"));
    User user;
    RQ_TRY(user.password, text_member(entry, "password"));
    const auto permissions = entry.FindMember("perms");
    if (permissions != entry.MemberEnd() && !permissions->value.IsNull()) {
      if (!permissions->value.IsArray()) return fail(Errc::BadRequest, "perms of a credential is not an array");
      for (const rapidjson::Value& permission : permissions->value.GetArray()) {
        if (!permission.IsString()) return fail(Errc::BadRequest, "a permission is not a string");
        user.permissions.emplace(permission.GetString(), permission.GetStringLength());
      }
    }
    store.users_[name] = std::move(user);
  }
  return store;
}

bool CredentialStore::allows(std::string_view username, std::string_view password, std::string_view permission) const {
  const auto everybody = users_.find("*");
  if (everybody != users_.end() && has(everybody->second.permissions, permission)) return true;
  if (username.empty()) return false;
  const auto user = users_.find(username);
  const bool known = user != users_.end();
  const bool right = equal_in_constant_time(password, known ? std::string_view(user->second.password) : std::string_view("\x01"));
  return known && right && has(user->second.permissions, permission);
}

std::string CredentialStore::password_of(std::string_view username) const {
  const auto user = users_.find(username);
  return user == users_.end() ? std::string() : user->second.password;
}

}  // namespace rq::auth
