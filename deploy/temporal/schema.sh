#!/bin/sh
# Bring the schemas of both of Temporal's databases up to date; says so and changes nothing where they are.
set -eu
for database in temporal temporal_visibility; do
    schema=/etc/temporal/schema/postgresql/v12/${database#temporal_}/versioned
    temporal-sql-tool --db "$database" setup-schema --version 0.0
    temporal-sql-tool --db "$database" update-schema --schema-dir "$schema"
done
