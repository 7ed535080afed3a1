#include "shell/tree.h"

#include <map>

namespace rq::shell {
namespace {

// Sorted by name; of two members of one name the last wins, as in a Go map.
std::map<std::string_view, const Json*> sorted_members(const Json& object) {
  std::map<std::string_view, const Json*> sorted;
  for (const auto& [name, value] : object.members()) sorted[name] = &value;
  return sorted;
}

void write_member(std::string& out, std::string_view name, const Json& value, std::size_t indent) {
  if (value.is(Json::Kind::Null)) return;
  out.append(indent, ' ').append(name) += ':';
  if (!value.is(Json::Kind::Object)) {
    out.append(" ").append(go_value_text(value)) += '\n';
    return;
  }
  out += '\n';
  for (const auto& [inner_name, inner] : sorted_members(value)) write_member(out, inner_name, *inner, indent + 2);
}

}  // namespace

std::string go_value_text(const Json& value) {
  switch (value.kind()) {
    case Json::Kind::Null: return "<nil>";
    case Json::Kind::Boolean:
    case Json::Kind::Number:
    case Json::Kind::String: return value.text();
    case Json::Kind::Array: {
      std::string out = "[";
      for (const Json& element : value.elements()) {
        if (out.size() > 1) out += ' ';
        out += go_value_text(element);
      }
      return out + "]";
    }
    case Json::Kind::Object: {
      std::string out = "map[";
      for (const auto& [name, member] : sorted_members(value)) {
        if (out.size() > 4) out += ' ';
        out.append(name).append(":").append(go_value_text(*member));
      }
      return out + "]";
    }
  }
  return {};
}

std::string tree_text(const Json& object, std::string_view key) {
  std::string out;
  for (const auto& [name, value] : sorted_members(object))
    if (key.empty() || name == key) write_member(out, name, *value, 0);
  return out;
}

}  // namespace rq::shell
