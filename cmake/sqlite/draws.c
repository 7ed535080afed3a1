#include "draws.h"

#include <stdint.h>
#include <string.h>

#include "sqlite3.h"

static _Thread_local rq_draw rowid_draw;
static _Thread_local void* rowid_context;

void rq_set_rowid_draw(rq_draw draw, void* context) {
  rowid_draw = draw;
  rowid_context = context;
}

void rq_draw_rowid(int bytes, void* out) {
  if (rowid_draw) {
    rowid_draw(rowid_context, bytes, out);
  } else {
    sqlite3_randomness(bytes, out);
  }
}

/* The counter that is to be replaced is its own seed: names depend on the statement alone, not on when and how often it
** was prepared. A bijection of 32 bits, so the walk over taken names doesn't fall into a short circle early. */
void rq_draw_name(int bytes, void* out) {
  uint32_t x;
  if (bytes != (int)sizeof x) {
    sqlite3_randomness(bytes, out);
    return;
  }
  memcpy(&x, out, sizeof x);
  x = x * 747796405u + 2891336453u;
  x = ((x >> ((x >> 28) + 4)) ^ x) * 277803737u;
  x = (x >> 22) ^ x;
  memcpy(out, &x, sizeof x);
}
