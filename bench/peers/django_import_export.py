"""django-import-export in bulk mode, references cached. Run by the interpreter of the peers' own environment: `DATABASE_URL FILE`."""

# mypy: ignore-errors
import sys
from pathlib import Path
from urllib.parse import urlsplit

import django
import tablib
from django.conf import settings

url = urlsplit(sys.argv[1])
DATABASE = {"ENGINE": "django.db.backends.sqlite3", "NAME": url.path.removeprefix("/")}
if url.scheme.startswith("postgresql"):
    DATABASE = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": url.path[1:],
        "HOST": url.hostname,
        "PORT": url.port,
        "USER": url.username,
    }
settings.configure(DATABASES={"default": DATABASE}, INSTALLED_APPS=["import_export"], DEFAULT_AUTO_FIELD="django.db.models.BigAutoField")
django.setup()

from django.db import models  # noqa: E402 - only after the settings
from import_export import fields, resources, widgets  # noqa: E402


class Category(models.Model):
    """The table of categories."""

    code = models.CharField(max_length=30, unique=True)
    name = models.TextField(null=True)

    class Meta:
        app_label, db_table, managed = "bench", "category", False


class Item(models.Model):
    """The table of items."""

    code = models.CharField(max_length=30, unique=True)
    description = models.CharField(max_length=200, null=True)
    sequence = models.IntegerField(null=True)
    price = models.DecimalField(max_digits=12, decimal_places=2, null=True)
    start_date = models.DateField(null=True)
    is_active = models.BooleanField()
    category = models.ForeignKey(Category, models.CASCADE)
    notes = models.TextField(null=True)

    class Meta:
        app_label, db_table, managed = "bench", "item", False


class ItemResource(resources.ModelResource):
    """What the import does with a row."""

    category = fields.Field("category", "category_code", widgets.CachedForeignKeyWidget(Category, "code"))

    class Meta:
        model, use_bulk, batch_size = Item, True, 1000
        import_id_fields = ("code",)
        fields = ("code", "description", "sequence", "price", "start_date", "is_active", "category", "notes")
        force_init_instance = skip_diff = True  # every row is new: do not look for it, do not compare


result = ItemResource().import_data(tablib.Dataset().load(Path(sys.argv[2]).read_text(), format="csv"), raise_errors=False)
if result.has_errors() or result.has_validation_errors():
    wrong = [row for row in result.rows if row.errors] or result.invalid_rows
    sys.exit(f"{len(wrong)} rows with errors; nothing was imported" if wrong else str([error.error for error in result.base_errors]))
