"""SQLAlchemy's ORM: mapped class, flush, bulk insert, relationship-free queries, upsert; reflection."""

import sys

from sqlalchemy import BigInteger, Identity, String, create_engine, delete, func, inspect, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from rounds import run, same


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    username: Mapped[str] = mapped_column(String(255), unique=True)
    email: Mapped[str | None]


COLUMNS = {"id": ("BIGINT", False), "username": ("VARCHAR(255)", False), "email": ("TEXT", True)}

engine = create_engine(sys.argv[1].replace("postgres://", "postgresql+psycopg://"), pool_size=1)


def reflected():
    table = inspect(engine)
    same({c["name"]: (str(c["type"]), c["nullable"]) for c in table.get_columns("users")}, COLUMNS)
    same([(c["name"], c["column_names"]) for c in table.get_unique_constraints("users")], [("users_username_key", ["username"])])
    same([(i["name"], i["column_names"]) for i in table.get_indexes("users")], [("users_username_key", ["username"])])
    same((table.get_pk_constraint("users")["constrained_columns"], table.get_check_constraints("users")), (["id"], []))


def round_(number):
    reflected()
    name = f"sqlalchemy-{number}"
    with Session(engine) as session:
        session.execute(delete(User).where(User.username.like("sqlalchemy-%")))
        session.add_all([User(username=f"{name}-{n}", email="e") for n in range(3)])
        session.commit()
        users = session.scalars(select(User).where(User.username.startswith(name)).order_by(User.username)).all()
        same([user.username for user in users], [f"{name}-{n}" for n in range(3)])
        users[0].username = name + "-renamed"
        session.delete(users[2])
        session.commit()
        upsert = insert(User).values(username=f"{name}-1", email="new")
        upsert = upsert.on_conflict_do_update(index_elements=[User.username], set_={"email": upsert.excluded.email})
        same(session.scalars(upsert.returning(User.email)).all(), ["new"])
        session.execute(update(User).where(User.username == f"{name}-1").values(username=User.username + "!"))
        session.commit()
        start = func.left(User.username, 10).label("start")
        grouped = select(start, func.count()).where(User.username.like("sqlalchemy-%")).group_by("start")
        same(session.execute(grouped).all(), [("sqlalchemy", 2)])
        locked = session.scalars(select(User).where(User.username == f"{name}-1!").with_for_update(skip_locked=True)).one()
        same(locked.email, "new")
        session.rollback()


run(round_)
