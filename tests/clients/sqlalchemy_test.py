"""sqlalchemy-rqlite: the dialect on top of pyrqlite; SQLAlchemy's core, ORM and reflection. No transactions: every statement commits."""
import datetime

from sqlalchemy import (Boolean, Column, Date, DateTime, Float, ForeignKey, Integer, LargeBinary, MetaData, String, Table, create_engine,
                        func, inspect, select, text)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, declarative_base, relationship

from flows import AUTH, BLOB, FLOAT, INT64, TEXT, main, raises

Base = declarative_base()


class Author(Base):
    __tablename__ = "authors"
    id = Column(Integer, primary_key=True)
    name = Column(String(100), nullable=False, unique=True)
    books = relationship("Book", back_populates="author")


class Book(Base):
    __tablename__ = "books"
    id = Column(Integer, primary_key=True)
    title = Column(String(200))
    author_id = Column(Integer, ForeignKey("authors.id"))
    author = relationship("Author", back_populates="books")


def engine(address, user=""):
    return create_engine("rqlite+pyrqlite://%s%s/?detect_types=0" % (user, address))


def core(address):
    e = engine(address)
    with e.connect() as connection:
        connection.execute(text("DROP TABLE IF EXISTS core"))
        connection.execute(text("CREATE TABLE core(id INTEGER PRIMARY KEY, v TEXT)"))
        done = connection.execute(text("INSERT INTO core(v) VALUES(:v)"), {"v": TEXT})
        assert done.lastrowid == 1, done.lastrowid
        connection.execute(text("INSERT INTO core(v) VALUES(:v)"), [{"v": "b"}, {"v": "c"}])
        rows = connection.execute(text("SELECT id, v FROM core ORDER BY id")).fetchall()
        assert [tuple(r) for r in rows] == [(1, TEXT), (2, "b"), (3, "c")], rows
        assert connection.execute(text("UPDATE core SET v='x' WHERE id>1")).rowcount == 2


def orm(address):
    e = engine(address)
    Base.metadata.drop_all(e)
    Base.metadata.create_all(e)
    with Session(e) as session:
        session.add(Author(name=TEXT, books=[Book(title="one"), Book(title="two")]))
        session.commit()
        author = session.scalars(select(Author)).one()
        assert author.id == 1 and author.name == TEXT and sorted(b.title for b in author.books) == ["one", "two"]
        author.name = "renamed"
        session.commit()
        assert session.scalar(select(func.count()).select_from(Book).join(Author).where(Author.name == "renamed")) == 2
        session.delete(session.get(Book, 1))
        session.commit()
        assert session.scalar(select(func.count()).select_from(Book)) == 1


def types(address):
    e, day, moment = engine(address), datetime.date(2026, 2, 3), datetime.datetime(2026, 2, 3, 4, 5, 6, 789000)
    kinds = Table("sa_kinds", MetaData(), Column("id", Integer, primary_key=True), Column("f", Float), Column("t", String), Column("b", LargeBinary),
                  Column("n", Integer), Column("d", Date), Column("bo", Boolean))
    kinds.metadata.drop_all(e)
    kinds.metadata.create_all(e)
    with e.connect() as connection:
        connection.execute(kinds.insert(), {"id": INT64, "f": FLOAT, "t": TEXT, "b": BLOB, "n": None, "bo": True})
        row = tuple(connection.execute(select(kinds)).one())
        assert row == (INT64, FLOAT, TEXT, BLOB, None, None, True), row


def reflection(address):
    """The dialect doesn't tell SQLAlchemy which SQLite it talks to, and reflection of columns asks that: with every server. So it is told here."""
    e = engine(address)
    e.dialect._get_server_version_info = lambda connection: tuple(
        int(n) for n in connection.exec_driver_sql("SELECT sqlite_version()").scalar().split("."))
    Base.metadata.create_all(e)
    i = inspect(e)
    assert {"authors", "books"} <= set(i.get_table_names())
    assert [c["name"] for c in i.get_columns("books")] == ["id", "title", "author_id"]
    assert i.get_pk_constraint("authors")["constrained_columns"] == ["id"]
    assert i.get_foreign_keys("books")[0]["referred_table"] == "authors"
    assert Table("authors", MetaData(), autoload_with=e).c.name.type.length == 100


def errors(address):
    e = engine(address)
    with e.connect() as connection:
        raises(DBAPIError, lambda: connection.execute(text("SELECT * FROM nowhere")), "no such table: nowhere")
    Base.metadata.create_all(e)
    with Session(e) as session:
        session.add_all([Author(id=100, name="same"), Author(id=101, name="other")])
        session.commit()
        session.add(Author(id=102, name="same"))
        raises(DBAPIError, session.commit, "UNIQUE constraint failed: authors.name")
        session.rollback()
        session.query(Author).filter(Author.id >= 100).delete()
        session.commit()


def auth():
    with engine(AUTH, "app:pw-app@").connect() as connection:
        connection.execute(text("CREATE TABLE sa(v)"))
    with engine(AUTH, "reader:pw-reader@").connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM sa")).scalar() == 0
        raises(DBAPIError, lambda: connection.execute(text("INSERT INTO sa VALUES(1)")), "401")
    raises(DBAPIError, lambda: engine(AUTH, "app:wrong@").connect(), "401")


main([core, orm, types, reflection, errors], [auth])
