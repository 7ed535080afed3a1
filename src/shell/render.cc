#include "shell/render.h"

#include <algorithm>
#include <array>
#include <cwchar>
#include <map>

#include "base/go_text.h"
#include "shell/tree.h"

namespace rq::shell {
namespace {

struct ModeName {
  Mode mode;
  std::string_view name;
};
constexpr std::array<ModeName, 11> kModes{{{Mode::Column, "column"}, {Mode::Csv, "csv"}, {Mode::Json, "json"}, {Mode::Line, "line"},
                                           {Mode::Box, "box"}, {Mode::Table, "table"}, {Mode::Markdown, "markdown"}, {Mode::Html, "html"},
                                           {Mode::Insert, "insert"}, {Mode::Tabs, "tabs"}, {Mode::List, "list"}}};

using Cells = std::vector<std::vector<std::string>>;

std::string cell_text(const Json& value, std::string_view null_text) {
  return value.is(Json::Kind::Null) ? std::string(null_text) : go_value_text(value);
}

Cells cells_of(const Rows& rows, std::string_view null_text) {
  Cells cells;
  cells.reserve(rows.values.size());
  for (const auto& row : rows.values) {
    auto& line = cells.emplace_back();
    for (const Json& value : row) line.push_back(cell_text(value, null_text));
  }
  return cells;
}

std::size_t character_count(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

// The reference's box: a width is counted in bytes, the padding in characters, so multi-byte text makes it too wide.
std::string column_text(const Rows& rows, const Cells& cells) {
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < rows.columns.size(); ++i) {
    std::size_t width = rows.columns[i].size();
    for (const auto& row : cells) width = std::max(width, row[i].size());
    widths.push_back(width);
  }
  std::string rule = "+";
  for (const std::size_t width : widths) rule.append(width + 2, '-') += '+';
  rule += '\n';
  std::string out = rule;
  const auto line = [&](const std::vector<std::string>& row) {
    out += '|';
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::size_t characters = character_count(row[i]);
      out.append(" ").append(row[i]).append(widths[i] > characters ? widths[i] - characters : 0, ' ').append(" |");
    }
    out.append("\n").append(rule);
  };
  line(rows.columns);
  for (const auto& row : cells) line(row);
  return out;
}

// When Go's encoding/csv quotes a field.
std::string csv_field(const std::string& field) {
  const bool lead = !field.empty() && (field[0] == ' ' || field[0] == '\t' || field[0] == '\n' || field[0] == '\v' || field[0] == '\f' || field[0] == '\r' ||
                                       field.starts_with("\xC2\x85") || field.starts_with("\xC2\xA0"));
  if (!lead && field != "\\." && field.find_first_of(",\"\r\n") == std::string::npos) return field;
  std::string out = "\"";
  for (const char c : field) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + "\"";
}

std::string separated_text(const Rows& rows, const Cells& cells, bool headers, char separator, bool quoted) {
  std::string out;
  const auto line = [&](const std::vector<std::string>& row) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (i > 0) out += separator;
      out += quoted ? csv_field(row[i]) : row[i];
    }
    out += '\n';
  };
  if (headers) line(rows.columns);
  for (const auto& row : cells) line(row);
  return out;
}

void append_json_value(std::string& out, const Json& value, std::size_t indent) {
  switch (value.kind()) {
    case Json::Kind::Null: out += "null"; return;
    case Json::Kind::String: append_json_string(out, value.text()); return;
    case Json::Kind::Boolean:
    case Json::Kind::Number: out += value.text(); return;
    case Json::Kind::Object: out += "{}"; return;      // no cell is one
    case Json::Kind::Array:                             // a BLOB as numbers
      if (value.elements().empty()) {
        out += "[]";
        return;
      }
      out += '[';
      for (std::size_t i = 0; i < value.elements().size(); ++i) {
        out.append(i > 0 ? ",\n" : "\n").append(indent + 2, ' ');
        append_json_value(out, value.elements()[i], indent + 2);
      }
      out.append("\n").append(indent, ' ') += ']';
  }
}

std::string json_text(const Rows& rows) {
  if (rows.values.empty()) return "[]\n";
  std::map<std::string_view, std::size_t> order;      // by name; of two columns of one name the last one
  for (std::size_t i = 0; i < rows.columns.size(); ++i) order[rows.columns[i]] = i;
  std::string out = "[\n";
  for (std::size_t r = 0; r < rows.values.size(); ++r) {
    out += "  {\n";
    std::size_t written = 0;
    for (const auto& [name, i] : order) {
      out += "    ";
      append_json_string(out, name);
      out += ": ";
      append_json_value(out, rows.values[r][i], 4);
      out += ++written < order.size() ? ",\n" : "\n";
    }
    out += r + 1 < rows.values.size() ? "  },\n" : "  }\n";
  }
  return out + "]\n";
}

std::string line_text(const Rows& rows, const Cells& cells) {
  std::size_t width = 0;
  for (const std::string& name : rows.columns) width = std::max(width, name.size());
  std::string out;
  for (const auto& row : cells) {
    if (!out.empty()) out += '\n';
    for (std::size_t i = 0; i < row.size(); ++i)
      out.append(width - rows.columns[i].size(), ' ').append(rows.columns[i]).append(" = ").append(row[i]) += '\n';
  }
  return out;
}

// --- ours: cells of several lines become several lines, widths are those of the terminal, numbers stand on the right

std::vector<std::string> lines_of(const std::string& cell) {
  std::vector<std::string> lines{""};
  for (const char c : cell) {
    if (c == '\n') {
      lines.emplace_back();
    } else if (c == '\t') {
      lines.back() += "    ";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      if (c != '\r') lines.back() += '?';     // an escape sequence in the data must not reach the terminal
    } else {
      lines.back() += c;
    }
  }
  return lines;
}

struct Frame {
  std::string_view horizontal, vertical;
  std::array<std::string_view, 3> top, middle, bottom;    // left, crossing, right
  bool outer_rules;
};
constexpr Frame kBox{"─", "│", {"┌", "┬", "┐"}, {"├", "┼", "┤"}, {"└", "┴", "┘"}, true};
constexpr Frame kTable{"-", "|", {"+", "+", "+"}, {"+", "+", "+"}, {"+", "+", "+"}, true};
constexpr Frame kMarkdown{"-", "|", {"|", "|", "|"}, {"|", "|", "|"}, {"|", "|", "|"}, false};

class Grid {
 public:
  Grid(const Rows& rows, const Cells& cells, const Frame& frame) : rows_(rows), cells_(cells), frame_(frame) {
    for (std::size_t i = 0; i < rows.columns.size(); ++i) {
      std::size_t width = 1;
      for (const std::string& line : lines_of(rows.columns[i])) width = std::max(width, display_width(line));
      for (const auto& row : cells)
        for (const std::string& line : lines_of(row[i])) width = std::max(width, display_width(line));
      widths_.push_back(width);
    }
  }

  std::string text() {
    if (frame_.outer_rules) rule(frame_.top);
    line(rows_.columns, nullptr);
    rule(frame_.middle);
    for (std::size_t r = 0; r < cells_.size(); ++r) line(cells_[r], &rows_.values[r]);
    if (frame_.outer_rules) rule(frame_.bottom);
    return std::move(out_);
  }

 private:
  void rule(const std::array<std::string_view, 3>& corners) {
    out_ += corners[0];
    for (std::size_t i = 0; i < widths_.size(); ++i) {
      for (std::size_t n = 0; n < widths_[i] + 2; ++n) out_ += frame_.horizontal;
      out_ += corners[i + 1 < widths_.size() ? 1 : 2];
    }
    out_ += '\n';
  }
  void line(const std::vector<std::string>& row, const std::vector<Json>* values) {
    std::vector<std::vector<std::string>> lines;
    std::size_t height = 1;
    for (const std::string& cell : row) height = std::max(height, lines.emplace_back(lines_of(cell)).size());
    for (std::size_t h = 0; h < height; ++h) {
      out_ += frame_.vertical;
      for (std::size_t i = 0; i < row.size(); ++i) {
        const std::string text = h < lines[i].size() ? lines[i][h] : "";
        const std::size_t space = widths_[i] - display_width(text);
        const bool right = values != nullptr && (*values)[i].is(Json::Kind::Number);
        out_.append(" ").append(right ? space : 0, ' ').append(text).append(right ? 0 : space, ' ').append(" ").append(frame_.vertical);
      }
      out_ += '\n';
    }
  }

  const Rows& rows_;
  const Cells& cells_;
  const Frame& frame_;
  std::vector<std::size_t> widths_;
  std::string out_;
};

std::string replaced(std::string_view text, std::initializer_list<std::pair<char, std::string_view>> map) {
  std::string out;
  for (const char c : text) {
    const auto found = std::find_if(map.begin(), map.end(), [c](const auto& entry) { return entry.first == c; });
    if (found == map.end()) out += c; else out += found->second;
  }
  return out;
}

std::string markdown_text(Rows rows, Cells cells) {
  const auto safe = [](std::string& cell) { cell = replaced(cell, {{'|', "\\|"}, {'\n', "<br>"}}); };
  std::for_each(rows.columns.begin(), rows.columns.end(), safe);
  for (auto& row : cells) std::for_each(row.begin(), row.end(), safe);
  return Grid(rows, cells, kMarkdown).text();
}

std::string html_text(const Rows& rows, const Cells& cells) {
  std::string out;
  const auto line = [&](const std::vector<std::string>& row, std::string_view tag) {
    out += "<tr>";
    for (const std::string& cell : row) {
      const std::string safe = replaced(cell, {{'<', "&lt;"}, {'>', "&gt;"}, {'&', "&amp;"}, {'"', "&quot;"}});
      out.append("<").append(tag).append(">").append(safe).append("</").append(tag).append(">");
    }
    out += "</tr>\n";
  };
  out += "<table>\n";
  line(rows.columns, "th");
  for (const auto& row : cells) line(row, "td");
  return out + "</table>\n";
}

std::string doubled(std::string_view text, char quote) {
  std::string out(1, quote);
  for (const char c : text) out.append(c == quote ? 2 : 1, c);
  return out + quote;
}

std::string type_of_column(const Rows& rows, std::size_t i) {
  std::string type = i < rows.types.size() ? rows.types[i] : "";
  std::transform(type.begin(), type.end(), type.begin(), [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
  return type;
}

std::string hex_literal(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out = "x'";
  for (const char c : bytes) out.append(1, kDigits[static_cast<unsigned char>(c) >> 4U]).append(1, kDigits[static_cast<unsigned char>(c) & 15U]);
  return out + "'";
}

std::string sql_literal(const Json& value, const std::string& type) {
  switch (value.kind()) {
    case Json::Kind::Null: return "NULL";
    case Json::Kind::Boolean: return value.truth() ? "1" : "0";
    case Json::Kind::Number: return value.text();
    case Json::Kind::String:
      if (type == "BLOB")
        if (const auto bytes = decode_base64(value.text())) return hex_literal(*bytes);
      return doubled(value.text(), '\'');
    case Json::Kind::Array: {
      std::string bytes;
      for (const Json& element : value.elements()) bytes += static_cast<char>(std::stoi(element.text()));
      return hex_literal(bytes);
    }
    case Json::Kind::Object: return "NULL";
  }
  return "NULL";
}

std::string insert_text(const Rows& rows, const std::string& table) {
  std::string head = "INSERT INTO " + doubled(table, '"') + "(";
  for (std::size_t i = 0; i < rows.columns.size(); ++i) head.append(i > 0 ? "," : "").append(doubled(rows.columns[i], '"'));
  head += ") VALUES(";
  std::string out;
  for (const auto& row : rows.values) {
    out += head;
    for (std::size_t i = 0; i < row.size(); ++i) out.append(i > 0 ? "," : "").append(sql_literal(row[i], type_of_column(rows, i)));
    out += ");\n";
  }
  return out;
}

std::string_view default_null(Mode mode) {
  switch (mode) {
    case Mode::Column: return "<nil>";
    case Mode::Csv:
    case Mode::Line: return "NULL";
    case Mode::Json:
    case Mode::Box:
    case Mode::Table:
    case Mode::Markdown:
    case Mode::Html:
    case Mode::Insert:
    case Mode::Tabs:
    case Mode::List: return "";
  }
  return "";
}

// The first code point of `text`, and its size in bytes; a byte that begins none stands for itself.
std::pair<char32_t, std::size_t> code_point(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const std::size_t size = lead < 0x80 ? 1 : lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
  if (size == 1 || size > text.size()) return {lead, 1};
  char32_t value = lead & (0x7FU >> size);
  for (std::size_t i = 1; i < size; ++i) value = (value << 6U) | (static_cast<unsigned char>(text[i]) & 0x3FU);
  return {value, size};
}

}  // namespace

std::optional<Mode> mode_of(std::string_view name) {
  for (const ModeName& entry : kModes)
    if (entry.name == name) return entry.mode;
  return std::nullopt;
}

std::string_view name_of(Mode mode) {
  for (const ModeName& entry : kModes)
    if (entry.mode == mode) return entry.name;
  return {};
}

std::string mode_choices() {
  std::string out;
  for (std::size_t i = 0; i < kModes.size(); ++i)
    out.append(i == 0 ? "'" : i + 1 < kModes.size() ? ", '" : ", or '").append(kModes[i].name).append("'");
  return out;
}

std::string render(const Rows& rows, const RenderOptions& options) {
  const Cells cells = cells_of(rows, options.null_text ? std::string_view(*options.null_text) : default_null(options.mode));
  switch (options.mode) {
    case Mode::Column: return column_text(rows, cells);
    case Mode::Csv: return separated_text(rows, cells, options.headers, ',', true);
    case Mode::Json: return json_text(rows);
    case Mode::Line: return line_text(rows, cells);
    case Mode::Box: return Grid(rows, cells, kBox).text();
    case Mode::Table: return Grid(rows, cells, kTable).text();
    case Mode::Markdown: return markdown_text(rows, cells);
    case Mode::Html: return html_text(rows, cells);
    case Mode::Insert: return insert_text(rows, options.insert_table);
    case Mode::Tabs: return separated_text(rows, cells, options.headers, '\t', false);
    case Mode::List: return separated_text(rows, cells, options.headers, '|', false);
  }
  return {};
}

std::size_t display_width(std::string_view text) {
  std::size_t width = 0;
  while (!text.empty()) {
    const auto [point, size] = code_point(text);
    text.remove_prefix(size);
    if (point < 0x80) {
      width += point >= 0x20 && point != 0x7F ? 1 : 0;
    } else {
      const int columns = ::wcwidth(static_cast<wchar_t>(point));
      width += columns >= 0 ? static_cast<std::size_t>(columns) : 1;
    }
  }
  return width;
}

}  // namespace rq::shell
