"""XLSX workbooks, read as a stream of rows in flat memory; nothing that they say of themselves is trusted."""
