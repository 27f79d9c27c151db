#!/usr/bin/env bash
# Creates one database and one role for each of MLflow, Prefect and Optuna. A role can open only its own database.
# PostgreSQL's image runs this script once, when its volume is empty. A later run creates what is missing and sets the
# passwords. The subshell protects the image's own shell, which sources a script that is not executable.
(
    set -euo pipefail

    for name in mlflow prefect optuna; do
        password="${name^^}_DB_PASSWORD"
        : "${!password:?is not set}"
        # The environment passes the password: other users can read a command line, but not the environment.
        NAME=$name PASSWORD=${!password} psql --username "${POSTGRES_USER:-postgres}" --dbname postgres \
            --no-psqlrc --quiet --set ON_ERROR_STOP=1 <<'SQL'
\getenv name NAME
\getenv password PASSWORD
SELECT format('CREATE ROLE %I LOGIN', :'name') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'name') \gexec
ALTER ROLE :"name" PASSWORD :'password';
SELECT format('CREATE DATABASE %I OWNER %I', :'name', :'name')
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \gexec
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
    done
)
