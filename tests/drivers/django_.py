"""Django's ORM: create, bulk_create with conflicts, F expressions, Q, aggregation, values, select_for_update, iterator;
inspectdb and introspection."""

import io
import sys
from urllib.parse import urlsplit

import django
from django.conf import settings

from rounds import run, same

url = urlsplit(sys.argv[1])
settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": url.path.lstrip("/"),
            "USER": url.username,
            "HOST": url.hostname,
            "PORT": url.port,
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[],
)
django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection, models, transaction  # noqa: E402
from django.db.models import Count, F, Q, Value  # noqa: E402
from django.db.models.functions import Concat, Upper  # noqa: E402


class User(models.Model):
    username = models.CharField(max_length=255, unique=True)
    email = models.TextField(null=True)

    class Meta:
        app_label = "old"
        db_table = "users"


def inspected():
    with connection.cursor() as cursor:
        table = connection.introspection.get_table_description(cursor, "users")
        columns = {column.name: (column.type_code, column.display_size, column.null_ok) for column in table}
        same(columns, {"id": (20, 8, False), "username": (1043, 255, False), "email": (25, None, True)})
        constraints = connection.introspection.get_constraints(cursor, "users")
        same(sorted(constraints), ["users_pkey", "users_username_key"])
        same((constraints["users_username_key"]["columns"], constraints["users_username_key"]["unique"]), (["username"], True))
    out = io.StringIO()
    call_command("inspectdb", "users", stdout=out)
    same("username = models.CharField(unique=True, max_length=255)" in out.getvalue(), True)
    same("handle" in out.getvalue(), False)


def round_(number):
    inspected()
    name = f"django-{number}"
    mine = User.objects.filter(username__startswith="django-")
    mine.delete()
    first = User.objects.create(username=name, email="e")
    same(User.objects.get(username=name).pk, first.pk)
    User.objects.bulk_create([User(username=f"{name}-{n}") for n in range(5)])
    User.objects.bulk_create(
        [User(username=f"{name}-0", email="again")], update_conflicts=True, unique_fields=["username"], update_fields=["email"]
    )
    same(User.objects.get(username=f"{name}-0").email, "again")
    same(mine.filter(Q(email="e") | Q(email__isnull=True)).count(), 5)
    same(mine.filter(pk=first.pk).update(username=Concat(F("username"), Value("!"))), 1)
    first.refresh_from_db()
    same(first.username, name + "!")
    first.username = name
    first.save()
    same(list(mine.order_by("username").values_list("username", flat=True))[:2], [name, f"{name}-0"])
    same(mine.annotate(loud=Upper("username")).filter(loud=f"{name}-1".upper()).exists(), True)
    same(list(mine.values("email").annotate(n=Count("username")).order_by("n").values_list("email", "n"))[-1], (None, 4))
    with transaction.atomic():
        same(User.objects.select_for_update().get(username=name).pk, first.pk)
    same(len(list(mine.iterator(chunk_size=2))), 6)
    same(User.objects.get_or_create(username=name)[1], False)


run(round_)
