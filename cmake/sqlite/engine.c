static void draw_rowid(int bytes, void* out);
static void draw_name(int bytes, void* out);

/* A call whose size argument is spelled sizeof(v) or sizeof(cnt) becomes a call of a hook; every other use, the
** definition included, keeps its meaning (a macro isn't expanded within itself). */
#define sqlite3_randomness(N, P) RQ_SECOND(RQ_DRAW_##N, sqlite3_randomness, )(N, P)
#define RQ_SECOND(...) RQ_SECOND_(__VA_ARGS__)
#define RQ_SECOND_(first, second, ...) second
#define RQ_DRAW_sizeof(x) RQ_DRAW_sizeof_##x
#define RQ_DRAW_sizeof_v ~, draw_rowid
#define RQ_DRAW_sizeof_cnt ~, draw_name

#include "sqlite3.c"

#undef sqlite3_randomness

#include "engine.h" /* behind sqlite3.c, which brings its own sqlite3.h */

static _Thread_local rq_draw rowid_draw;
static _Thread_local void* rowid_context;

void rq_set_rowid_draw(rq_draw draw, void* context) {
  rowid_draw = draw;
  rowid_context = context;
}

static void draw_rowid(int bytes, void* out) {
  if (rowid_draw) {
    rowid_draw(rowid_context, bytes, out);
  } else {
    sqlite3_randomness(bytes, out);
  }
}

/* The counter that is to be replaced is its own seed: names depend on the statement alone, not on when and how often it
** was prepared. A bijection of 32 bits, so the walk over taken names doesn't fall into a short circle early. */
static void draw_name(int bytes, void* out) {
  u32 x;
  assert(bytes == (int)sizeof x);
  (void)bytes;
  memcpy(&x, out, sizeof x);
  x = x * 747796405u + 2891336453u;
  x = ((x >> ((x >> 28) + 4)) ^ x) * 277803737u;
  x = (x >> 22) ^ x;
  memcpy(out, &x, sizeof x);
}

void rq_set_counters(sqlite3* db, sqlite3_int64 last_insert_rowid, sqlite3_int64 changes, sqlite3_int64 total_changes) {
  db->lastRowid = last_insert_rowid;
  db->nChange = changes;
  db->nTotalChange = total_changes;
}

sqlite3_uint64 rq_schema_stamp(sqlite3* db) {
  const Schema* schema = db->aDb[0].pSchema;
  return (u64)(u32)schema->schema_cookie << 32 | (u32)schema->iGeneration;
}

int rq_foreign_keys_violated(sqlite3* db) { return db->nDeferredCons + db->nDeferredImmCons != 0; }

void rq_defer_foreign_keys(sqlite3* db) { db->flags |= SQLITE_DeferFKs; }

void rq_end_deferral(sqlite3* db) {
  db->flags &= ~(u64)SQLITE_DeferFKs;
  db->nDeferredCons = 0;
  db->nDeferredImmCons = 0;
}
