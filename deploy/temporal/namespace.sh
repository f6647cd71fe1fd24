#!/bin/sh
# See to it that the namespace is there and can be used: it keeps closed cases for a year.
set -eu

within() {
    left=$1
    shift
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        if [ "$left" = 0 ]; then
            "$@"
            exit 1
        fi
        sleep 1
    done
}

within 60 temporal operator cluster health --command-timeout 5s
temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1 ||
    temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention 8760h
# A server learns of a new namespace some seconds later.
within 60 temporal workflow list --namespace "$TEMPORAL_NAMESPACE" --limit 1 --command-timeout 5s
echo "namespace $TEMPORAL_NAMESPACE is there"
