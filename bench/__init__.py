"""The protocol: result schema, statistics, tables, figures and report. Needs no torch."""
