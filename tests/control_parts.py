"""Tables for control files to be compiled against, in a target of either kind."""

from __future__ import annotations

import itertools
import sqlite3
import textwrap
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import psycopg
import pytest

from engine.control import compile
from engine.plan import EntityPlan, Mapping, Plan
from engine.tables import Tables
from engine.target import open_target
from errors import ControlFileInvalid, Problem
from schemas.control import examine, parse
from tests import postgresql

NUMBERS = itertools.count(1)
SCHEMA = """
CREATE TABLE airlines (carrier varchar(8) PRIMARY KEY, name text NOT NULL);
CREATE TABLE airports (faa text PRIMARY KEY, name text UNIQUE);
CREATE TABLE planes (tailnum text PRIMARY KEY, year integer);
CREATE TABLE flights (
    id integer PRIMARY KEY, flight integer, carrier varchar(8) NOT NULL REFERENCES airlines, tailnum text REFERENCES planes,
    origin text REFERENCES airports, dest text REFERENCES airports, dep_delay numeric(6, 1), time_hour timestamp
);
CREATE TABLE permission_tree (id integer PRIMARY KEY, code text UNIQUE);
CREATE TABLE cost_element (id integer PRIMARY KEY, code text UNIQUE, parent_id integer REFERENCES cost_element);
CREATE TABLE commodity (
    id integer PRIMARY KEY, permission_tree_id integer REFERENCES permission_tree, code text UNIQUE, description text,
    sequence_number integer, cost_element_id integer REFERENCES cost_element, notes text, is_active boolean NOT NULL
);
CREATE TABLE resource (id integer PRIMARY KEY, code text UNIQUE);
CREATE TABLE trade (id integer PRIMARY KEY, code text UNIQUE, group_code text REFERENCES cost_element (code));
CREATE TABLE resource_trade (
    id integer PRIMARY KEY, resource_id integer NOT NULL REFERENCES resource, trade_id integer NOT NULL REFERENCES trade, level integer,
    UNIQUE (resource_id, trade_id)
);
CREATE TABLE region (country text, code text, title text, PRIMARY KEY (country, code));
CREATE TABLE customer (
    id integer PRIMARY KEY, email text UNIQUE, country text, region_code text, born date, seen timestamp, details json, big bigint,
    amount numeric(12, 2), name text, upper_name text GENERATED ALWAYS AS (upper(name)) STORED, ssn text, raw BINARY_TYPE,
    FOREIGN KEY (country, region_code) REFERENCES region (country, code)
);
CREATE TABLE keyless (a text, b text);
CREATE TABLE two_keys (a text UNIQUE, b text UNIQUE);
CREATE TABLE part_key (a text, b text);
CREATE UNIQUE INDEX part_key_a ON part_key (a) WHERE b IS NOT NULL;
CREATE TABLE order_line (id integer PRIMARY KEY);
CREATE TABLE orderline (id integer PRIMARY KEY);
"""


def one_entity(table: str, inputs: str, *mappings: str) -> str:
    """Return a control file of one entity called `X`; its mappings begin at line 6."""
    lines = "".join(f"  - {mapping}\n" for mapping in mappings)
    return f"entities:\n- entity: X\n  table: {table}\n  input: [{inputs}]\n  mappings:\n{lines}"


@dataclass(frozen=True)
class Made:
    """A target with the tables above."""

    tables: Tables
    dialect: str

    def compile(self, text: str) -> Plan:
        """Compile a control file."""
        return compile(parse(textwrap.dedent(text).encode()), self.tables, self.dialect)

    def entity(self, table: str, inputs: str, *mappings: str) -> EntityPlan:
        """Compile one entity called `X`."""
        return self.compile(one_entity(table, inputs, *mappings)).entities["x"]

    def mapping(self, table: str, inputs: str, mapping: str) -> Mapping:
        """Compile one mapping."""
        return self.entity(table, inputs, mapping).mappings[0]

    def problems(self, text: str) -> list[Problem]:
        """Return the faults of a control file."""
        with pytest.raises(ControlFileInvalid) as caught:
            self.compile(text)
        return list(caught.value.problems)

    def together(self, text: str) -> list[Problem]:
        """Return the faults of a control file, those of its form and those of its meaning, as a service tells them."""
        try:
            compile(examine(textwrap.dedent(text).encode()), self.tables, self.dialect)
        except ControlFileInvalid as invalid:
            return list(invalid.problems)
        return []

    def faults(self, text: str) -> list[str]:
        """Return the faults of a control file as text, without the allowed names."""
        return [str(problem).partition(" (allowed: ")[0] for problem in self.problems(text)]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """Give a target of either kind with the tables above; nothing is written to it, so all tests share it."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("control") / "target.db"
        url = f"sqlite:///{path}"
        with closing(sqlite3.connect(path)) as sqlite:
            sqlite.executescript(SCHEMA.replace("BINARY_TYPE", "blob"))
    else:
        name = f"control{next(NUMBERS)}"
        server = request.getfixturevalue("postgres_servers").get(next(iter(postgresql.versions()))).url("postgres")
        url = f"{server.rpartition('/')[0]}/{name}"
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name}")
        with psycopg.connect(url, autocommit=True) as postgres:
            postgres.execute(SCHEMA.replace("BINARY_TYPE", "bytea"))
    target = open_target(url)
    yield Made(target.tables(), target.dialect)
    target.close()
