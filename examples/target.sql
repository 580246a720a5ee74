-- A database as somebody might have it: four tables that refer to each other.
CREATE TABLE airlines (
  carrier TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
);

CREATE TABLE airports (
  faa TEXT NOT NULL PRIMARY KEY CHECK (length(faa) = 3),
  name TEXT NOT NULL,
  lat NUMERIC,
  lon NUMERIC,
  alt INTEGER
);

CREATE TABLE planes (
  tailnum TEXT NOT NULL PRIMARY KEY,
  year INTEGER,
  manufacturer TEXT NOT NULL,
  model TEXT NOT NULL,
  seats INTEGER CHECK (seats > 0)
);

CREATE TABLE flights (
  id INTEGER PRIMARY KEY,
  carrier TEXT NOT NULL REFERENCES airlines,
  flight INTEGER NOT NULL,
  time_hour TIMESTAMPTZ NOT NULL,
  tailnum TEXT REFERENCES planes,
  origin TEXT NOT NULL REFERENCES airports,
  dest TEXT NOT NULL REFERENCES airports,
  dep_delay INTEGER,
  arr_delay INTEGER,
  air_time INTEGER,
  distance INTEGER,
  UNIQUE (carrier, flight, time_hour)
);
CREATE INDEX flights_tailnum ON flights (tailnum);
CREATE INDEX flights_origin ON flights (origin);
CREATE INDEX flights_dest ON flights (dest);
