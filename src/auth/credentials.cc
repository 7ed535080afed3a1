#include "auth/credentials.h"

#include <crypt.h>
#include <rapidjson/document.h>
#include <rapidjson/memorystream.h>

#include <algorithm>
#include <array>
#include <memory>

namespace rq::auth {
namespace {

constexpr unsigned kParseFlags = rapidjson::kParseStopWhenDoneFlag | rapidjson::kParseIterativeFlag;
constexpr std::size_t kBcryptBytes = 60, kYescryptDigest = 43;

std::string quoted(char c) {
  if (c == '\'') return "'\\''";
  if (c == '"') return "'\"'";
  if (static_cast<unsigned char>(c) >= 0x20 && static_cast<unsigned char>(c) < 0x7f) return std::string("'") + c + "'";
  static constexpr char kHex[] = "0123456789abcdef";
  const auto byte = static_cast<unsigned char>(c);
  return std::string("'\\x") + kHex[byte >> 4] + kHex[byte & 15] + "'";
}

std::string_view type_name(const rapidjson::Value& value) {
  switch (value.GetType()) {
    case rapidjson::kStringType: return "string";
    case rapidjson::kNumberType: return "number";
    case rapidjson::kObjectType: return "object";
    case rapidjson::kArrayType: return "array";
    case rapidjson::kTrueType:
    case rapidjson::kFalseType: return "bool";
    case rapidjson::kNullType: return "null";
  }
  return "value";
}

tl::unexpected<Error> wrong_type(const rapidjson::Value& value, const std::string& into) {
  return fail(Errc::BadRequest, "json: cannot unmarshal " + std::string(type_name(value)) + " into Go " + into);
}

std::string place_of(rapidjson::ParseErrorCode code) {
  switch (code) {
    case rapidjson::kParseErrorObjectMissName: return "looking for beginning of object key string";
    case rapidjson::kParseErrorObjectMissColon: return "after object key";
    case rapidjson::kParseErrorObjectMissCommaOrCurlyBracket: return "after object key:value pair";
    case rapidjson::kParseErrorArrayMissCommaOrSquareBracket: return "after array element";
    case rapidjson::kParseErrorStringUnicodeEscapeInvalidHex:
    case rapidjson::kParseErrorStringUnicodeSurrogateInvalid:
    case rapidjson::kParseErrorStringEscapeInvalid: return "in string escape code";
    case rapidjson::kParseErrorStringMissQuotationMark:
    case rapidjson::kParseErrorStringInvalidEncoding: return "in string literal";
    case rapidjson::kParseErrorNumberMissFraction:
    case rapidjson::kParseErrorNumberMissExponent: return "in numeric literal";
    default: return "looking for beginning of value";
  }
}

// The texts of a JSON file, read one after the other as Go's decoder does.
class Decoder {
 public:
  explicit Decoder(std::string_view text) : text_(text) {}

  char peek() {                               // NUL: the end
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r')) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  void skip() { ++at_; }
  tl::unexpected<Error> unexpected(const std::string& place) const {
    return fail(Errc::BadRequest, "invalid character " + quoted(text_[at_]) + " " + place);
  }
  Result<> value(rapidjson::Document& out) {
    if (peek() == '\0') return fail(Errc::BadRequest, "unexpected EOF");
    rapidjson::MemoryStream stream(text_.data() + at_, text_.size() - at_);
    out.ParseStream<kParseFlags>(stream);
    const std::size_t begin = at_;
    if (!out.HasParseError()) {
      at_ += stream.Tell();
      return {};
    }
    at_ = begin + out.GetErrorOffset();
    if (at_ >= text_.size()) return fail(Errc::BadRequest, "unexpected EOF");
    return unexpected(place_of(out.GetParseError()));
  }

 private:
  const std::string_view text_;
  std::size_t at_ = 0;
};

bool same_name(std::string_view name, std::string_view lower) {
  return std::ranges::equal(name, lower, [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b; });
}

Result<> read_text(const rapidjson::Value& value, const std::string& field, std::string& out) {
  if (value.IsNull()) return {};
  if (!value.IsString()) return wrong_type(value, "struct field Credential." + field + " of type string");
  out.assign(value.GetString(), value.GetStringLength());
  return {};
}

Result<> read_permissions(const rapidjson::Value& value, std::set<std::string, std::less<>>& out) {
  out.clear();
  if (value.IsNull()) return {};
  if (!value.IsArray()) return wrong_type(value, "struct field Credential.perms of type []string");
  for (const rapidjson::Value& permission : value.GetArray()) {
    std::string name;
    RQ_CHECK(read_text(permission, "perms", name));
    out.insert(std::move(name));
  }
  return {};
}

// By its form; whether crypt takes it is seen when it is used.
bool is_hash(std::string_view text) {
  if (text.starts_with("$2a$") || text.starts_with("$2b$") || text.starts_with("$2y$")) return text.size() == kBcryptBytes;
  const std::size_t digest = text.rfind('$') + 1;
  return text.starts_with("$y$") && std::ranges::count(text, '$') == 4 && text.size() - digest == kYescryptDigest;
}

Result<User> read_user(const rapidjson::Value& entry) {
  User user;
  if (entry.IsNull()) return user;
  if (!entry.IsObject()) return wrong_type(entry, "value of type auth.Credential");
  for (const auto& member : entry.GetObject()) {
    const std::string_view name(member.name.GetString(), member.name.GetStringLength());
    if (same_name(name, "username")) RQ_CHECK(read_text(member.value, "username", user.name));
    if (same_name(name, "password")) RQ_CHECK(read_text(member.value, "password", user.password));
    if (same_name(name, "password_hash")) RQ_CHECK(read_text(member.value, "password_hash", user.hash));
    if (same_name(name, "perms")) RQ_CHECK(read_permissions(member.value, user.permissions));
  }
  if (!user.hash.empty() && !is_hash(user.hash))
    return fail(Errc::BadRequest, "password_hash of user \"" + user.name + "\" is neither bcrypt ($2b$...) nor yescrypt ($y$...)");
  return user;
}

}  // namespace

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

bool matches_hash(const std::string& password, const std::string& hash) {
  if (password.find('\0') != std::string::npos) return false;   // crypt would see only what is before
  const auto room = std::make_unique<crypt_data>();
  const char* made = crypt_rn(password.c_str(), hash.c_str(), room.get(), sizeof *room);
  return made != nullptr && equal_in_constant_time(made, hash);
}

Result<CredentialStore> CredentialStore::parse(std::string_view json) {
  Decoder in(json);
  CredentialStore store;
  const char first = in.peek();
  if (first == '\0') return fail(Errc::BadRequest, "EOF");
  if (first != '[' && first != '{') {
    rapidjson::Document scalar;
    RQ_CHECK(in.value(scalar));
    return fail(Errc::BadRequest, "EOF");          // a lone value is taken, then there is nothing
  }
  in.skip();
  if (first == '{') {
    if (in.peek() == '\0') return fail(Errc::BadRequest, "EOF");
    if (in.peek() == '}') return store;
    return fail(Errc::BadRequest, "not at beginning of value");
  }
  for (bool begun = false;; begun = true) {
    const char next = in.peek();
    if (next == '\0') return fail(Errc::BadRequest, "EOF");
    if (next == ']') return store;
    if (begun && next != ',') return fail(Errc::BadRequest, "expected comma after array element");
    if (begun) in.skip();
    rapidjson::Document entry;
    RQ_CHECK(in.value(entry));
    RQ_TRY(User user, read_user(entry));
    std::string name = user.name;
    store.users_[std::move(name)] = std::move(user);
  }
}

const User* CredentialStore::find(std::string_view name) const {
  const auto user = users_.find(name);
  return user == users_.end() ? nullptr : &user->second;
}

}  // namespace rq::auth
