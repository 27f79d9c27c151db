#!/usr/bin/env bash
# A database each for MLflow, Prefect and Optuna, each of a role that sees no other. The image of PostgreSQL runs
# this once, when its volume is empty; run again, it makes what is missing and sets the passwords that are given.
# A subshell: the image reads a file that is not executable into its own shell.
(
    set -euo pipefail

    for name in mlflow prefect optuna; do
        password="${name^^}_DB_PASSWORD"
        : "${!password:?is not set}"
        # The password goes by the environment, which no other user can read, unlike a command line.
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
