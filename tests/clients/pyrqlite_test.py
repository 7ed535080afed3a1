"""pyrqlite: DB-API; puts parameters into the text itself, follows redirects, knows no transactions."""
import datetime
import json

import pyrqlite.dbapi2 as dbapi2

from flows import AUTH, BLOB, FLOAT, INT64, TEXT, host_port, main, raises


def connect(address, **options):
    host, port = host_port(address)
    return dbapi2.connect(host=host, port=port, **options)


def create_insert_select(address):
    with connect(address).cursor() as c:
        c.execute("DROP TABLE IF EXISTS foo")
        c.execute("CREATE TABLE foo (id INTEGER NOT NULL PRIMARY KEY, name TEXT)")
        c.executemany("INSERT INTO foo(name) VALUES(?)", seq_of_parameters=(("a",), ("b",)))
        assert c.rowcount == 2, c.rowcount
        c.execute("INSERT INTO foo(name) VALUES(:name)", {"name": TEXT})
        assert c.lastrowid == 3, c.lastrowid
        c.execute("SELECT id, name FROM foo ORDER BY id")
        assert [d[0] for d in c.description] == ["id", "name"]
        rows = c.fetchall()
        assert [tuple(r) for r in rows] == [(1, "a"), (2, "b"), (3, TEXT)], rows
        assert rows[0]["name"] == "a"
        c.execute("UPDATE foo SET name='x' WHERE id<?", (3,))
        assert c.rowcount == 2
        c.execute("DELETE FROM foo")
        assert c.rowcount == 3
        c.execute("SELECT * FROM foo")
        assert c.fetchone() is None


def types(address):
    with connect(address, detect_types=dbapi2.PARSE_DECLTYPES).cursor() as c:
        c.execute("DROP TABLE IF EXISTS kinds")
        c.execute("CREATE TABLE kinds(i INTEGER, f REAL, t TEXT, b BLOB, n INTEGER, d DATE, ts TIMESTAMP, bo BOOL)")
        day, moment = datetime.date(2026, 2, 3), datetime.datetime(2026, 2, 3, 4, 5, 6, 789000)
        c.execute("INSERT INTO kinds VALUES(?,?,?,?,?,?,?,?)", (INT64, FLOAT, TEXT, BLOB, None, day, moment, True))
        c.execute("SELECT * FROM kinds")
        row = tuple(c.fetchone())
        assert row == (INT64, FLOAT, TEXT, BLOB, None, day, moment, True), row


def consistency(address):
    with connect(address).cursor() as c:
        for level in ("none", "weak", "linearizable", "strong"):
            c.execute("SELECT 1 AS one", consistency=level)
            assert tuple(c.fetchone()) == (1,), level


def queued(address):
    with connect(address).cursor() as c:
        c.execute("DROP TABLE IF EXISTS q")
        c.execute("CREATE TABLE q(v)")
        c.execute("INSERT INTO q VALUES(?)", (1,), queue=True, wait=True)
        c.executemany("INSERT INTO q VALUES(?)", [(2,), (3,)], queue=True, wait=True)
        c.execute("SELECT count(*) FROM q")
        assert tuple(c.fetchone()) == (3,)


def errors(address):
    connection = connect(address)
    with connection.cursor() as c:
        raises(dbapi2.Error, lambda: c.execute("SELECT * FROM nowhere"), "no such table: nowhere")
        raises(dbapi2.Error, lambda: c.execute("CREATE TABLE"), "incomplete input")
        c.execute("DROP TABLE IF EXISTS u")
        c.execute("CREATE TABLE u(id INTEGER PRIMARY KEY)")
        c.execute("INSERT INTO u VALUES(1)")
        text = raises(dbapi2.Error, lambda: c.execute("INSERT INTO u VALUES(1)"))
        assert json.loads(text) == {"error": "UNIQUE constraint failed: u.id"}, text


def many_in_one_transaction(address):
    with connect(address).cursor() as c:
        c.execute("DROP TABLE IF EXISTS m")
        c.execute("CREATE TABLE m(id INTEGER PRIMARY KEY)")
        c.executemany("INSERT INTO m VALUES(?)", [(1,), (2,), (1,)])  # the client logs the error and goes on
        c.execute("SELECT count(*) FROM m")
        assert tuple(c.fetchone()) == (0,)


def ping(address):
    connection = connect(address)
    connection.ping()
    connection.close()
    connection.ping(reconnect=True)


def auth():
    with connect(AUTH, user="app", password="pw-app").cursor() as c:
        c.execute("CREATE TABLE a(v)")
    with connect(AUTH, user="reader", password="pw-reader").cursor() as c:
        c.execute("SELECT count(*) FROM a")
        assert tuple(c.fetchone()) == (0,)
        raises(dbapi2.Error, lambda: c.execute("INSERT INTO a VALUES(1)"), "401")
    with connect(AUTH, user="app", password="wrong").cursor() as c:
        raises(dbapi2.Error, lambda: c.execute("SELECT 1"), "401")


def memory():
    """`:memory:` starts an rqlited of its own, by RQLITED_PATH."""
    connection = dbapi2.connect(":memory:")
    with connection.cursor() as c:
        c.execute("CREATE TABLE t(v)")
        c.execute("INSERT INTO t VALUES(?)", ("x",))
        c.execute("SELECT v FROM t")
        assert tuple(c.fetchone()) == ("x",)
    connection.close()


main([create_insert_select, types, consistency, queued, errors, many_in_one_transaction, ping], [auth, memory])
