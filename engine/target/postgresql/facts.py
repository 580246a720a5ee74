"""The queries on PostgreSQL's system catalogues that reflect.py asks.

Each is small, because their planning takes longer than they do, and all of them travel together in one round trip. `oids` are the tables
in question with their partitions and heirs, whose triggers and constraints see our rows too.
"""

_VISIBLE = r"""c.relkind IN ('r', 'p', 'v', 'f') AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('lading', 'information_schema') AND n.nspname NOT LIKE 'pg\_%'"""

# The directory: every table and view there is, and what points at what. --------------------------------------------------------------
NAMES = f"""
SELECT n.nspname, c.relname, c.oid, c.relkind IN ('r', 'p') OR pg_catalog.pg_relation_is_updatable(c.oid, true) & 8 <> 0 AS is_writable
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE {_VISIBLE}
ORDER BY array_position(pg_catalog.current_schemas(false), n.nspname) NULLS LAST, n.nspname, c.relname
"""
REFERENCES = "SELECT DISTINCT k.conrelid, k.confrelid FROM pg_catalog.pg_constraint k WHERE k.contype = 'f'"
CHILDREN = "SELECT h.inhparent, h.inhrelid FROM pg_catalog.pg_inherits h"

# The facts of some tables. ----------------------------------------------------------------------------------------------------------
RELATIONS = """
SELECT c.oid, c.relkind = 'v', c.relkind IN ('v', 'f') OR pg_catalog.row_security_active(c.oid) OR c.relhasrules AND EXISTS (
    SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_enabled IN ('O', 'A')) AS has_rewrites
FROM pg_catalog.pg_class c WHERE c.oid = ANY (%(oids)s)
"""
TRIGGERS = """
SELECT DISTINCT t.tgrelid FROM pg_catalog.pg_trigger t
WHERE t.tgrelid = ANY (%(oids)s) AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
"""
COLUMNS = """
SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull, pg_catalog.format_type(a.atttypid, a.atttypmod) AS sql_type,
    a.attgenerated <> '' AS is_generated, CASE a.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END AS identity,
    pg_catalog.pg_get_expr(d.adbin, d.adrelid) AS default, a.attcollation,
    l.collname, l.collnamespace::regnamespace::text AS collation_schema, coalesce(l.collisdeterministic, true) AS is_deterministic
FROM pg_catalog.pg_attribute a
LEFT JOIN pg_catalog.pg_attrdef d ON a.atthasdef AND d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
WHERE a.attrelid = ANY (%(oids)s) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
"""
# An identity column's sequence depends on the column; the sequences of any other default are what the default depends on.
SEQUENCES = """
SELECT x.refobjid, x.refobjsubid, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(s.relname) AS name,
    true AS is_identity, pg_catalog.has_sequence_privilege(s.oid, 'USAGE, UPDATE') AS is_usable
FROM pg_catalog.pg_depend x JOIN pg_catalog.pg_class s ON s.oid = x.objid JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace
WHERE x.refclassid = 'pg_catalog.pg_class'::regclass AND x.refobjid = ANY (%(oids)s) AND x.refobjsubid > 0
    AND x.classid = 'pg_catalog.pg_class'::regclass AND x.deptype = 'i' AND s.relkind = 'S'
UNION ALL
SELECT d.adrelid, d.adnum, '', false, pg_catalog.has_sequence_privilege(s.oid, 'USAGE, UPDATE')
FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_depend x ON x.classid = 'pg_catalog.pg_attrdef'::regclass AND x.objid = d.oid
JOIN pg_catalog.pg_class s ON s.oid = x.refobjid
WHERE d.adrelid = ANY (%(oids)s) AND x.refclassid = 'pg_catalog.pg_class'::regclass AND s.relkind = 'S'
"""
# The columns' types, and what they are made of: a domain's base, an array's element.
TYPES = """
WITH RECURSIVE used(oid) AS (
    SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attrelid = ANY (%(oids)s) AND a.attnum > 0 AND NOT a.attisdropped
    UNION SELECT x.oid FROM used u JOIN pg_catalog.pg_type t ON t.oid = u.oid
        CROSS JOIN LATERAL (VALUES (t.typbasetype), (CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE 0::oid END)) x(oid) WHERE x.oid <> 0)
SELECT t.oid, t.typname, t.typnamespace = 'pg_catalog'::regnamespace AS is_system, t.typtype, t.typbasetype, t.typtypmod, t.typelem,
    t.typtype = 'b' AND t.typcategory = 'A' AND t.typlen = -1 AS is_array, t.typnotnull, t.typcollation,
    CASE WHEN t.typtype = 'd' THEN pg_catalog.pg_get_expr(t.typdefaultbin, 0) END AS default,
    pg_catalog.format_type(t.oid, -1) AS cast_type,
    CASE WHEN t.typtype = 'e' THEN
        ARRAY(SELECT e.enumlabel::text FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder) END AS labels
FROM used u JOIN pg_catalog.pg_type t ON t.oid = u.oid
"""
INDEXES = """
SELECT i.indrelid, coalesce(k.conname, x.relname) AS name, i.indisprimary, i.indpred IS NOT NULL AS is_partial,
    i.indisunique, i.indisexclusion, coalesce(k.condeferred, false) AS is_deferred, {nulls} AS nulls_are_equal,
    i.indkey::int2[] AS numbers, i.indnkeyatts, i.indcollation::oid[] AS collations,
    EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid = i.indexrelid) AS has_parent
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u')
WHERE i.indrelid = ANY (%(oids)s) AND (i.indisunique OR i.indisexclusion) AND i.indislive
ORDER BY i.indisprimary DESC, i.indexrelid
"""
# A foreign key to a partitioned table has a constraint of its own for each of that table's partitions, on the very same table: left out.
FOREIGN_KEYS = """
SELECT k.conrelid, k.conname, k.conkey, n.nspname, r.relname, k.condeferred,
    ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u(n, p)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n ORDER BY u.p) AS referenced
FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class r ON r.oid = k.confrelid JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
WHERE k.conrelid = ANY (%(oids)s) AND k.contype = 'f'
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint p WHERE p.oid = k.conparentid AND p.conrelid = k.conrelid)
ORDER BY k.oid
"""
# Every change of the facts writes one of these catalogue rows anew, so that their last writers (xmin) tell it. Foreign keys to a table show
# in its triggers. The privileges of sequences are left out: a run finds out about them by itself.
FINGERPRINTS = """
SELECT c.oid, 'c' AS kind, pg_catalog.row_security_active(c.oid) || c.xmin::text AS text
FROM pg_catalog.pg_class c WHERE c.oid = ANY (%(oids)s)
UNION ALL
SELECT a.attrelid, 'a', string_agg(a.xmin::text, ',' ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
WHERE a.attrelid = ANY (%(oids)s) AND a.attnum > 0 GROUP BY 1
UNION ALL
SELECT i.indrelid, 'i', string_agg(i.indexrelid || ':' || i.xmin, ',' ORDER BY i.indexrelid) FROM pg_catalog.pg_index i
WHERE i.indrelid = ANY (%(oids)s) GROUP BY 1
UNION ALL
SELECT t.tgrelid, 't', string_agg(t.oid || ':' || t.xmin, ',' ORDER BY t.oid) FROM pg_catalog.pg_trigger t
WHERE t.tgrelid = ANY (%(oids)s) GROUP BY 1
UNION ALL
SELECT k.conrelid, 'k', string_agg(k.oid || ':' || k.xmin, ',' ORDER BY k.oid) FROM pg_catalog.pg_constraint k
WHERE k.conrelid = ANY (%(oids)s) GROUP BY 1
UNION ALL
SELECT r.ev_class, 'r', string_agg(r.oid || ':' || r.xmin, ',' ORDER BY r.oid) FROM pg_catalog.pg_rewrite r
WHERE r.ev_class = ANY (%(oids)s) GROUP BY 1
UNION ALL
SELECT h.inhparent, 'h', string_agg(h.inhrelid::text, ',' ORDER BY h.inhrelid) FROM pg_catalog.pg_inherits h
WHERE h.inhparent = ANY (%(oids)s) GROUP BY 1
UNION ALL
SELECT a.attrelid, 'y', string_agg(t.xmin || coalesce(':' || (SELECT string_agg(e.xmin::text, ',' ORDER BY e.oid)
    FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid), ''), ',' ORDER BY a.attnum)
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = ANY (%(oids)s) AND a.attnum > 0 AND t.typtype IN ('d', 'e') GROUP BY 1
"""
