#!/bin/sh
# Run once, when the volume of PostgreSQL is new: a user and databases for the registry, and for Temporal.
set -eu
psql --no-psqlrc --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres \
    --set registry="$REGISTRY_PASSWORD" --set temporal="$TEMPORAL_PASSWORD" <<'SQL'
create role enforce login password :'registry';
create role temporal login password :'temporal';
create database registry owner enforce template template0 encoding 'UTF8';
create database temporal owner temporal template template0 encoding 'UTF8';
create database temporal_visibility owner temporal template template0 encoding 'UTF8';
revoke all on database registry, temporal, temporal_visibility, postgres, template1 from public;
SQL
