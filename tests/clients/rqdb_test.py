"""rqdb: cursors with bulk and unified requests, freshness, EXPLAIN, backups; asks every node to redirect it to the leader."""
import asyncio
import io
import sqlite3
import tempfile

import rqdb
from rqdb.errors import DBError, UnexpectedResponse

from flows import AUTH, FLOAT, FOLLOWER, INT64, LEADER, SINGLE, TEXT, host_port, main, raises


def connect(*addresses):
    return rqdb.connect(list(addresses), log=False)


def create_insert_select(address):
    c = connect(address).cursor()
    c.execute("DROP TABLE IF EXISTS persons")
    c.execute("CREATE TABLE persons (id INTEGER PRIMARY KEY, uid TEXT UNIQUE NOT NULL, name TEXT NOT NULL)")
    c.execute("INSERT INTO persons (uid, name) VALUES (?, ?)", ("u1", TEXT))
    assert c.last_insert_id == 1 and c.rows_affected == 1, (c.last_insert_id, c.rows_affected)
    c.execute("SELECT id, uid, name FROM persons")
    assert c.rowcount == 1 and c.fetchone() == [1, "u1", TEXT] and c.fetchone() is None
    c.execute("UPDATE persons SET name='x'")
    assert c.rows_affected == 1


def types(address):
    c = connect(address).cursor()
    c.execute("SELECT ?, ?, ?, ?, ?", (INT64, FLOAT, TEXT, None, True))
    row = c.fetchone()
    assert row == [INT64, FLOAT, TEXT, None, 1], row
    c.execute("SELECT CAST(? AS BLOB) AS b, 1 AS i UNION ALL SELECT ?, 2", ("abc", None))
    assert c.fetchall() == [["abc", 1], [None, 2]]


def bulk_and_transaction(address):
    c = connect(address).cursor()
    c.execute("DROP TABLE IF EXISTS b")
    done = c.executemany3((("CREATE TABLE b(id INTEGER PRIMARY KEY, v)", ()), ("INSERT INTO b VALUES(?,?)", (1, "x")), ("INSERT INTO b(v) VALUES(?)", ("y",))))
    assert [i.rows_affected for i in done][1:] == [1, 1] and done[2].last_insert_id == 2
    done = c.executemany2(("INSERT INTO b(v) VALUES('z')", "INSERT INTO b VALUES(1, 'again')"), None, raise_on_error=False)
    assert done[1].error == "UNIQUE constraint failed: b.id", done
    c.execute("SELECT count(*) FROM b")
    assert c.fetchone() == [2], "the transaction was rolled back as a whole"
    done = c.executeunified2(("INSERT INTO b(v) VALUES(?)", "SELECT v FROM b WHERE id=?"), (("u",), (1,)))
    assert done[0].rows_affected == 1 and done[1].results == [["x"]], done


def consistency(address):
    for level in ("none", "weak", "strong"):
        c = connect(address).cursor(read_consistency=level)
        c.execute("SELECT 1")
        assert c.fetchone() == [1], level
    c = connect(address).cursor(read_consistency="none", freshness="5m")
    c.execute("SELECT 2")
    assert c.fetchone() == [2]


def errors(address):
    c = connect(address).cursor()
    raises(DBError, lambda: c.execute("SELECT * FROM nowhere"), "no such table: nowhere")
    raises(DBError, lambda: c.execute("CREATE TABLE"), "incomplete input")


def explain(address):
    c = connect(address).cursor()
    c.execute("CREATE TABLE IF NOT EXISTS e(id INTEGER PRIMARY KEY, v)")
    text = c.explain("SELECT * FROM e WHERE id=?", (1,), out="str")
    assert "SEARCH e USING INTEGER PRIMARY KEY" in text, text


def backup(address):
    connection = connect(address)
    connection.cursor().executemany2(("DROP TABLE IF EXISTS kept", "CREATE TABLE kept(v)", "INSERT INTO kept VALUES(7)"))
    image, text = io.BytesIO(), io.BytesIO()
    connection.backup(image)
    connection.backup(text, raw=True)
    with tempfile.NamedTemporaryFile() as f:
        f.write(image.getvalue())
        f.flush()
        assert sqlite3.connect(f.name).execute("SELECT v FROM kept").fetchall() == [(7,)]
    assert b"CREATE TABLE kept" in text.getvalue()


def discovers_the_leader():
    assert connect(FOLLOWER).discover_leader() == host_port(LEADER)
    assert connect(SINGLE).discover_leader() == host_port(SINGLE)


def goes_on_with_another_host():
    c = connect("127.0.0.1:1", FOLLOWER).cursor()
    for _ in range(4):
        c.execute("SELECT 1")
        assert c.fetchone() == [1]


def asynchronously():
    async def flow():
        async with rqdb.connect_async([FOLLOWER], log=False) as connection:
            c = connection.cursor("strong")
            await c.execute("CREATE TABLE IF NOT EXISTS a(v)")
            await c.execute("INSERT INTO a VALUES(?)", ("async",))
            await c.execute("SELECT v FROM a")
            assert c.fetchall() == [["async"]]
    asyncio.run(flow())


def auth():
    """rqdb has no credentials: it must see a refusal, not an empty answer."""
    raises(UnexpectedResponse, lambda: connect(AUTH).cursor().execute("SELECT 1"), "401")


main([create_insert_select, types, bulk_and_transaction, consistency, errors, explain, backup],
     [discovers_the_leader, goes_on_with_another_host, asynchronously, auth])
