#!/bin/sh
# Make what docker-compose.yml needs and no repository may hold: .env, and one source of reports. What is there stays.
set -eu
cd "$(dirname "$0")/.."

secret() { head -c "$1" /dev/urandom | base64 | tr -d '\n'; }

if [ ! -e .env ]; then
    (umask 077 && while read -r line; do
        case $line in
            *=SECRET) echo "${line%SECRET}$(secret 24 | tr '+/' 'xy')" ;;
            *) echo "$line" ;;
        esac
    done <deploy/env.example >.env.part)
    mv .env.part .env
    echo "made .env"
fi
if [ ! -e deploy/sources.toml ]; then
    # Readable for the user of the container, who is nobody here.
    printf '[dial-back]\nsecrets = ["whsec_%s"]\n' "$(secret 32)" >deploy/sources.toml.part
    mv deploy/sources.toml.part deploy/sources.toml
    echo "made deploy/sources.toml, with the source dial-back"
fi
mkdir -p reports
