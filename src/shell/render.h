// How the rows of a result are shown (spec shell section 6.1). column, csv, json and line are the reference's, to the byte;
// the others are ours: box and table line up by display width. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "shell/json.h"

namespace rq::shell {

enum class Mode { Column, Csv, Json, Line, Box, Table, Markdown, Html, Insert, Tabs, List };

std::optional<Mode> mode_of(std::string_view name);
std::string_view name_of(Mode mode);
// "'column', 'csv', ..., or 'list'"
std::string mode_choices();

struct Rows {
  std::vector<std::string> columns;
  std::vector<std::string> types;                 // SQLite's declared types, as the server tells them; may be empty
  std::vector<std::vector<Json>> values;          // each as long as columns
};

struct RenderOptions {
  Mode mode = Mode::Column;
  std::optional<std::string> null_text;           // else what the mode has
  bool headers = true;                            // csv, tabs, list
  std::string insert_table = "tab";
};

std::string render(const Rows& rows, const RenderOptions& options);

// Columns that the text takes on a terminal: combining characters 0, East Asian wide ones and emoji 2.
std::size_t display_width(std::string_view text);

}  // namespace rq::shell
