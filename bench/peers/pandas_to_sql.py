"""pandas: read the file, join the categories' ids, append. Run by the interpreter of the peers' own environment: `DATABASE_URL FILE`."""

# mypy: ignore-errors
import sys

import pandas
import sqlalchemy

engine = sqlalchemy.create_engine(sys.argv[1])
frame = pandas.read_csv(sys.argv[2])
frame["start_date"] = pandas.to_datetime(frame["start_date"]).dt.date
categories = pandas.read_sql("SELECT id AS category_id, code AS category_code FROM category", engine)
frame = frame.merge(categories, on="category_code", how="left").drop(columns="category_code")
frame.to_sql("item", engine, if_exists="append", index=False, chunksize=10_000)
