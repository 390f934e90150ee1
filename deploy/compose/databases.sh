#!/usr/bin/env bash
# A database for each service, owned by a role that can reach no other. Run by the PostgreSQL image when its volume is empty.
set -euo pipefail

for service in profiles scoring routing complaints; do
    variable="${service^^}_PASSWORD"
    if [[ -z "${!variable:-}" ]]; then
        echo "$variable is not set" >&2
        exit 1
    fi
    # psql reads the password from the environment: arguments can be seen by every process.
    psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<SQL
\\getenv password $variable
CREATE ROLE $service LOGIN PASSWORD :'password';
CREATE DATABASE $service OWNER $service;
REVOKE ALL ON DATABASE $service FROM PUBLIC;
SQL
done
